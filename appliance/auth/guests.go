package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// A GuestLink lets people in who have no rights of their own: to one target by one protocol, for as long as its maker may
// reach and share that. What opens it is a secret, which is shown once; only its hash is kept.
type GuestLink struct {
	ID       string
	Hash     [sha256.Size]byte
	Maker    string
	Target   string
	VNet     string // where the target lay when the link was made, and Host likewise
	Host     string
	Protocol string
	Programs []string // of the appliance's that guests may use; none: whatever the rules allow
	Approval string   // a group of which somebody must agree first; may be empty
	SignIn   bool     // who opens it must sign in

	Source    string // where its maker was, and how and with which second factor they had come
	Transport string
	MFA       time.Time

	Created time.Time
	Expires time.Time
	Uses    int64 // how often it may be opened
	Used    int64
	Revoked time.Time // zero while it is good
}

// Good says whether the link lets guests do anything at a time.
func (l GuestLink) Good(now time.Time) bool { return l.Revoked.IsZero() && now.Before(l.Expires) }

// Scope is that of a device which has come by the link.
func (l GuestLink) Scope() Scope {
	return Scope{Targets: []string{l.Target}, Protocols: []string{l.Protocol}, Until: l.Expires, Link: l.ID}
}

// A GuestUse is one opening of a link.
type GuestUse struct {
	Link   string
	Number int64 // from 1 on
	User   string
	Device string
	Source string
	At     time.Time
}

// ErrGuestLink is the one answer to all links that are no good, whatever the reason.
var ErrGuestLink = &Error{"E_GUEST_LINK", "this link does not work", "it may be used up, expired or withdrawn; ask who gave it to you for another"}

// ErrGuestUnknown is the answer to an id of no link.
var ErrGuestUnknown = &Error{"E_GUEST_UNKNOWN", "there is no such guest link", "sallyport share ls lists yours"}

// ErrManyGuests is the answer to who has made too many links.
var ErrManyGuests = &Error{"E_LIMIT", fmt.Sprintf("%d of your guest links are good, which is the limit", maxLinks), "revoke some: sallyport share ls"}

// maxLinks is how many good links a person may have.
const maxLinks = 100

const (
	linkIDBytes     = 5  // ids are no secrets
	linkSecretBytes = 32 // nobody guesses one of these
)

// A GuestStore is what Guests need of a database. A fleet shares one. An error that is ErrControlDown says that it does not
// answer.
type GuestStore interface {
	// Links are those that had not expired at a time, the revoked ones too, the latest first.
	Links(ctx context.Context, since time.Time) ([]GuestLink, error)
	// Link is the one whose secret has a hash; ErrGuestLink if there is none.
	Link(ctx context.Context, hash [sha256.Size]byte) (GuestLink, error)
	Uses(ctx context.Context, since time.Time) ([]GuestUse, error)
	// Add adds a link; ErrManyGuests if its maker has most that are good.
	Add(ctx context.Context, l GuestLink, most int) error
	// Open takes one use of a link for a new device, both or neither. A device without a user becomes a guest's.
	// ErrGuestLink means that the link is no good any more, ErrDeviceTaken that the device is known.
	Open(ctx context.Context, hash [sha256.Size]byte, d Device, source string, now time.Time) (Device, error)
	Revoke(ctx context.Context, id string, at time.Time) error
	// Watch calls f whenever any may have changed, until ctx ends.
	Watch(ctx context.Context, f func() error) error
}

// Guests are the links of an appliance, in memory. Its methods may be called by many goroutines. Those with a secret ask
// the store: what it answers counts for all appliances.
type Guests struct {
	store   GuestStore
	devices *Registry
	clock   func() time.Time
	told    func()
	stop    context.CancelFunc
	follow  sync.WaitGroup

	mu    sync.RWMutex
	links map[string]GuestLink // by id
}

// OpenGuests reads the links of a database and follows what becomes of them; told is called when any has changed. The clock
// is time.Now outside tests.
func OpenGuests(ctx context.Context, store GuestStore, devices *Registry, clock func() time.Time, told func()) (*Guests, error) {
	g := &Guests{store: store, devices: devices, clock: clock, told: told}
	if err := g.reload(ctx); err != nil {
		return nil, err
	}
	ctx, g.stop = context.WithCancel(context.WithoutCancel(ctx))
	g.follow.Go(func() { store.Watch(ctx, func() error { return g.again(ctx) }) })
	return g, nil
}

// Close stops following.
func (g *Guests) Close() {
	g.stop()
	g.follow.Wait()
}

func (g *Guests) reload(ctx context.Context) error {
	all, err := g.store.Links(ctx, g.clock())
	if err != nil {
		return fmt.Errorf("read the guest links: %w", err)
	}
	links := make(map[string]GuestLink, len(all))
	for _, l := range all {
		links[l.ID] = l
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.links = links
	return nil
}

// again reads what has changed, and tells of it.
func (g *Guests) again(ctx context.Context) error {
	err := g.reload(ctx)
	if err == nil {
		g.told()
	}
	return err
}

// Get returns a link that is good at a time, or ErrGuestLink. It never waits for the store.
func (g *Guests) Get(id string, at time.Time) (GuestLink, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	l, known := g.links[id]
	if !known || !l.Good(at) {
		return GuestLink{}, ErrGuestLink
	}
	return l, nil
}

// List are the links that have not expired, the revoked ones too, the latest first.
func (g *Guests) List() []GuestLink {
	now := g.clock()
	g.mu.RLock()
	defer g.mu.RUnlock()
	list := make([]GuestLink, 0, len(g.links))
	for _, l := range g.links {
		if now.Before(l.Expires) {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b GuestLink) int {
		if d := b.Created.Compare(a.Created); d != 0 {
			return d
		}
		return strings.Compare(a.ID, b.ID)
	})
	return list
}

// Uses are who has opened the links that have not expired.
func (g *Guests) Uses(ctx context.Context) ([]GuestUse, error) { return g.store.Uses(ctx, g.clock()) }

// NewLinkID returns the id of a link that is about to be made.
func NewLinkID() string {
	var b [linkIDBytes]byte
	rand.Read(b[:]) // never fails: it would end the process
	return strings.ToLower(crockford.EncodeToString(b[:]))
}

// Make keeps a link, and returns the secret that opens it.
func (g *Guests) Make(ctx context.Context, l GuestLink) (made GuestLink, secret string, err error) {
	var b [linkSecretBytes]byte
	rand.Read(b[:])
	l.Hash, l.Used, l.Revoked = sha256.Sum256(b[:]), 0, time.Time{}
	if err := g.store.Add(ctx, l, maxLinks); err != nil {
		return GuestLink{}, "", err
	}
	return l, base64.RawURLEncoding.EncodeToString(b[:]), g.reload(ctx)
}

// HashLink returns the hash of a link's secret; false if it cannot be one.
func HashLink(secret string) (kept [sha256.Size]byte, ok bool) {
	if len(secret) != base64.RawURLEncoding.EncodedLen(linkSecretBytes) {
		return kept, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	return sha256.Sum256(b), err == nil && len(b) == linkSecretBytes
}

// Look returns the link of a secret without using it, if it is good and not used up, and else ErrGuestLink.
func (g *Guests) Look(ctx context.Context, secret string) (GuestLink, error) {
	hash, ok := HashLink(secret)
	l, err := g.store.Link(ctx, hash) // also of what cannot be one: all take as long
	if err == nil && (!ok || !l.Good(g.clock()) || l.Used >= l.Uses) {
		err = ErrGuestLink
	}
	if err != nil {
		return GuestLink{}, err
	}
	return l, nil
}

// Open uses the link of a secret for a new device, whose key, name and platform are given, and, of who has signed in, user
// and sign-in.
func (g *Guests) Open(ctx context.Context, l GuestLink, d Device, source string) (Device, error) {
	if err := (Enrolment{Key: d.Key, Name: d.Name, Platform: d.Platform}).check(); err != nil {
		return Device{}, err
	}
	d.ID, d.Enrolled, d.Scope = DeviceID(d.Key), g.clock().Truncate(time.Microsecond), l.Scope()
	d, err := g.store.Open(ctx, l.Hash, d, source, d.Enrolled)
	if err != nil {
		return Device{}, err
	}
	g.devices.Learn(d)
	return d, g.reload(ctx)
}

// Revoke makes a link worth nothing, and tells of it.
func (g *Guests) Revoke(ctx context.Context, id string) error {
	if err := g.store.Revoke(context.WithoutCancel(ctx), id, g.clock().Truncate(time.Microsecond)); err != nil {
		return err
	}
	return g.again(ctx)
}

// Known returns a link, also one that is no good any more and has not been forgotten, or ErrGuestUnknown.
func (g *Guests) Known(id string) (GuestLink, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	l, known := g.links[id]
	if !known {
		return l, ErrGuestUnknown
	}
	return l, nil
}
