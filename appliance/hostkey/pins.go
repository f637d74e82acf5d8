package hostkey

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// A Key is one by which a target is known.
type Key struct {
	Target    string
	Algorithm string
	Blob      []byte    // as it is on the wire
	Seen      time.Time // first
	Confirmed time.Time // zero: nobody has
	By        string    // who has
}

// Fingerprint is the key's, as ssh prints it.
func (k Key) Fingerprint() string { return Fingerprint(k.Blob) }

// Fingerprint is the SHA-256 of a key as ssh prints it, or of a certificate as the access files have it, or a word for
// what is neither.
func Fingerprint(blob []byte) string {
	if isX509(blob) {
		return x509Fingerprint(blob)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return "unreadable"
	}
	return ssh.FingerprintSHA256(key)
}

// Line is the key as authorized_keys has it, or a certificate in a line of that kind.
func (k Key) Line() string {
	if isX509(k.Blob) {
		return x509Algorithm + " " + base64.StdEncoding.EncodeToString(k.Blob)
	}
	key, err := ssh.ParsePublicKey(k.Blob)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// A Store is where keys are pinned.
type Store interface {
	HostKeys(context.Context) ([]Key, error)
	See(context.Context, Key) (pinned Key, err error) // pins it unless another of its target and algorithm is
	Put(context.Context, Key) error                   // pins it in place of that
	Forget(ctx context.Context, target string) error
}

// What Check says.
var (
	// ErrUnconfirmed: the key is the first of its target, and nobody has confirmed it.
	ErrUnconfirmed = errors.New("nobody has confirmed the key")
	// ErrUnknown: there is no such key to confirm, or none to forget.
	ErrUnknown = errors.New("there is no such host key")
)

// A MismatchError says that a server shows another key than it should.
type MismatchError struct {
	Target string
	Known  []string // fingerprints
	Shown  string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s shows the key %s, and not %s", e.Target, e.Shown, strings.Join(e.Known, " or "))
}

// maxOffered bounds the refused keys that are remembered, one for each target.
const maxOffered = 1000

// Pins are the keys that are pinned. They are kept in memory, so that a flow to a known target does not wait for the
// store.
type Pins struct {
	store   Store
	confirm bool
	now     func() time.Time

	mu      sync.Mutex
	keys    map[string][]Key
	offered map[string]Key // the latest that was refused, for who wants to confirm it
}

// Open reads the pins. With confirm a first key does not count before somebody has confirmed it.
func Open(ctx context.Context, s Store, confirm bool, now func() time.Time) (*Pins, error) {
	p := &Pins{store: s, confirm: confirm, now: now, offered: map[string]Key{}}
	return p, p.Reload(ctx)
}

// Reload reads the pins again, after others may have changed them.
func (p *Pins) Reload(ctx context.Context) error {
	all, err := p.store.HostKeys(ctx)
	if err != nil {
		return fmt.Errorf("read the host keys: %w", err)
	}
	keys := map[string][]Key{}
	for _, k := range all {
		keys[k.Target] = append(keys[k.Target], k)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = keys
	return nil
}

// Check compares a key that a target shows, and pins it if it is the first. Of a certificate of SSH it is the certified
// key that counts, one of TLS counts as it is. The error is a *MismatchError, ErrUnconfirmed, ErrUnread, or the store's.
func (p *Pins) Check(ctx context.Context, target string, blob []byte) error {
	k := Key{Target: target, Algorithm: x509Algorithm, Blob: blob, Seen: p.now()}
	if !isX509(blob) {
		key, err := certified(blob)
		if err != nil {
			return err
		}
		k.Algorithm, k.Blob = key.Type(), key.Marshal()
	}
	p.mu.Lock()
	known := p.keys[target]
	p.mu.Unlock()
	if len(known) == 0 {
		pinned, err := p.store.See(ctx, k)
		if err != nil {
			return err
		}
		known = []Key{pinned}
		p.mu.Lock()
		p.set(pinned)
		p.mu.Unlock()
	}
	i := slices.IndexFunc(known, func(o Key) bool { return bytes.Equal(o.Blob, k.Blob) })
	switch {
	case i < 0:
		p.offer(k)
		no := &MismatchError{Target: target, Shown: k.Fingerprint()}
		for _, o := range known {
			no.Known = append(no.Known, o.Fingerprint())
		}
		return no
	case p.confirm && known[i].Confirmed.IsZero():
		return ErrUnconfirmed
	}
	return nil
}

// certified is a key, or the one that a certificate is about.
func certified(blob []byte) (ssh.PublicKey, error) {
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return nil, unread("its key does not parse")
	}
	if cert, ok := key.(*ssh.Certificate); ok {
		return cert.Key, nil
	}
	return key, nil
}

// set takes a key up in place of the one of its algorithm. The list is made anew: others read the old one.
func (p *Pins) set(k Key) {
	list := slices.DeleteFunc(slices.Clone(p.keys[k.Target]), func(o Key) bool { return o.Algorithm == k.Algorithm })
	p.keys[k.Target] = append(list, k)
}

func (p *Pins) offer(k Key) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.offered) >= maxOffered {
		clear(p.offered)
	}
	p.offered[k.Target] = k
}

// Of returns the keys of a target that count.
func (p *Pins) Of(target string) (keys []Key) {
	for _, k := range p.List(target) {
		if !p.confirm || !k.Confirmed.IsZero() {
			keys = append(keys, k)
		}
	}
	return keys
}

// List returns the keys of a target or, where that is empty, of all.
func (p *Pins) List(target string) []Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	if target != "" {
		return p.keys[target]
	}
	all := []Key{}
	for _, keys := range p.keys {
		all = append(all, keys...)
	}
	slices.SortFunc(all, func(a, b Key) int {
		return strings.Compare(a.Target+" "+a.Algorithm, b.Target+" "+b.Algorithm)
	})
	return all
}

// Offered returns the latest key that each target was refused for.
func (p *Pins) Offered(target string) (Key, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.offered[target]
	return k, ok
}

// Confirm confirms the key of a target that has the fingerprint: one that is pinned, or the one that was refused last,
// which then takes the place of the pinned one of its algorithm.
func (p *Pins) Confirm(ctx context.Context, target, fingerprint, by string) error {
	p.mu.Lock()
	candidates := slices.Clone(p.keys[target])
	if k, ok := p.offered[target]; ok {
		candidates = append(candidates, k)
	}
	p.mu.Unlock()
	i := slices.IndexFunc(candidates, func(k Key) bool { return k.Fingerprint() == fingerprint })
	if i < 0 {
		return ErrUnknown
	}
	k := candidates[i]
	k.Confirmed, k.By = p.now(), by
	if err := p.store.Put(ctx, k); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(k)
	delete(p.offered, target)
	return nil
}

// Forget forgets the keys of a target, so that the next that it shows is its first.
func (p *Pins) Forget(ctx context.Context, target string) error {
	if err := p.store.Forget(ctx, target); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.keys, target)
	delete(p.offered, target)
	return nil
}

// CheckFixed compares a key with those that an administrator has written down: the keys themselves, and authorities whose
// certificate for the name counts. All are lines as in authorized_keys.
func CheckFixed(target string, blob []byte, keys, authorities []string) error {
	shown, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return unread("its key does not parse")
	}
	plain := shown
	if cert, ok := shown.(*ssh.Certificate); ok {
		plain = cert.Key
		if certifiedBy(cert, target, authorities) {
			return nil
		}
	}
	no := &MismatchError{Target: target, Shown: ssh.FingerprintSHA256(plain)}
	for _, line := range keys {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			continue
		}
		if bytes.Equal(key.Marshal(), plain.Marshal()) {
			return nil
		}
		no.Known = append(no.Known, ssh.FingerprintSHA256(key))
	}
	for _, line := range authorities {
		if key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err == nil {
			no.Known = append(no.Known, "a certificate by "+ssh.FingerprintSHA256(key))
		}
	}
	return no
}

// certifiedBy says whether a host certificate is good for a name, by one of these authorities.
func certifiedBy(cert *ssh.Certificate, name string, authorities []string) bool {
	if cert.CertType != ssh.HostCert || len(cert.ValidPrincipals) == 0 {
		return false // which would be good for any name
	}
	for _, line := range authorities {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err == nil && bytes.Equal(key.Marshal(), cert.SignatureKey.Marshal()) {
			return new(ssh.CertChecker).CheckCert(name, cert) == nil
		}
	}
	return false
}
