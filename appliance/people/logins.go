package people

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/signin"
	"sallyport/appliance/store"
)

// Logins are devices that wait for a person, in a database that the appliances of a fleet share: command and browser may
// talk to two of them. It is a signin.Logins. What is in it is sealed.
type Logins struct {
	Store     *store.Store
	Box       *Box
	PerSource int // of one IPv4 address or IPv6 /64, at this appliance; default 20

	mu       sync.Mutex
	bySource map[netip.Prefix][]time.Time // when they expire
}

const (
	loginKind = "login"
	codeKind  = "code of a login"
)

// Add implements signin.Logins.
func (l *Logins) Add(ctx context.Context, n signin.Login) error {
	code := sha256.Sum256([]byte(n.Code))
	if err := l.count(n); err != nil {
		return err
	}
	err := l.Store.Keep(ctx, store.OneTime{Kind: codeKind, Hash: code[:], Data: l.Box.Seal([]byte(n.ID), codeKind), Expires: n.Expires})
	if errors.Is(err, store.ErrConflict) {
		return signin.ErrCodeInUse
	}
	if err != nil {
		return err
	}
	sealed, err := l.seal(n)
	if err != nil {
		return err
	}
	id := sha256.Sum256([]byte(n.ID))
	return l.Store.Keep(ctx, store.OneTime{Kind: loginKind, Hash: id[:], Data: sealed, Expires: n.Expires})
}

// count counts a login in, or says that its source has too many.
func (l *Logins) count(n signin.Login) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bySource == nil {
		l.bySource = map[netip.Prefix][]time.Time{}
	}
	for source, expire := range l.bySource {
		if expire = slices.DeleteFunc(expire, func(at time.Time) bool { return !n.Started.Before(at) }); len(expire) == 0 {
			delete(l.bySource, source)
		} else {
			l.bySource[source] = expire
		}
	}
	source := auth.Network(n.Source)
	if len(l.bySource[source]) >= cmp.Or(l.PerSource, 20) {
		return signin.ErrManyLogins
	}
	l.bySource[source] = append(l.bySource[source], n.Expires)
	return nil
}

func (l *Logins) seal(n signin.Login) ([]byte, error) {
	text, err := json.Marshal(n)
	return l.Box.Seal(text, loginKind), err
}

// ByCode implements signin.Logins.
func (l *Logins) ByCode(ctx context.Context, code string) (signin.Login, bool, error) {
	hash := sha256.Sum256([]byte(code))
	o, err := l.Store.Look(ctx, codeKind, hash[:], time.Now())
	if errors.Is(err, store.ErrNotFound) {
		return signin.Login{}, false, nil
	}
	if err != nil {
		return signin.Login{}, false, err
	}
	id, err := l.Box.Open(o.Data, codeKind)
	if err != nil {
		return signin.Login{}, false, err
	}
	n, _, err := l.look(ctx, string(id))
	if errors.Is(err, signin.ErrUnknownLogin) {
		return n, false, nil
	}
	return n, err == nil, err
}

// look returns a login, and what is in the database of it.
func (l *Logins) look(ctx context.Context, id string) (n signin.Login, was store.OneTime, err error) {
	hash := sha256.Sum256([]byte(id))
	was, err = l.Store.Look(ctx, loginKind, hash[:], time.Now())
	if errors.Is(err, store.ErrNotFound) {
		return n, was, signin.ErrUnknownLogin
	}
	if err != nil {
		return n, was, err
	}
	text, err := l.Box.Open(was.Data, loginKind)
	if err == nil {
		err = json.Unmarshal(text, &n)
	}
	return n, was, err
}

// Update implements signin.Logins.
func (l *Logins) Update(ctx context.Context, id string, change func(*signin.Login) error) (signin.Login, error) {
	for { // each time around somebody else has changed it, which each of them does once
		n, was, err := l.look(ctx, id)
		if err != nil {
			return signin.Login{}, err
		}
		if err := change(&n); err != nil {
			return signin.Login{}, err
		}
		is := was
		if is.Data, err = l.seal(n); err != nil {
			return signin.Login{}, err
		}
		if err = l.Store.Exchange(ctx, is, was.Data, time.Now()); !errors.Is(err, store.ErrConflict) {
			return n, err
		}
		if ctx.Err() != nil {
			return signin.Login{}, context.Cause(ctx)
		}
	}
}
