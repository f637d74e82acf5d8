// Package sshca is the appliance's certificate authority for SSH users: it signs a device's key for a few minutes and a few
// names on the target.
//
//	ca, err := sshca.Open(ctx, store, seal, time.Now)
//	cert, err := ca.Sign(key, sshca.Subject{ID: "ann dev-k3j9", Principals: []string{"ann"}})
//	fmt.Println(ca.Lines()) // for the targets' TrustedUserCAKeys
//
// # Rotation
//
// Rotate makes the next key, which signs only after the overlap: until then targets can be given both, and after it the
// one before is printed for as long again, so that no order of events leaves a target with a certificate that it does not
// trust.
//
// # Where keys are
//
// The database has the private halves sealed by a key that is a file beside it. Who reads a copy of the database, or shares
// its server, signs nothing.
package sshca

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// A certificate is for opening a connection, which may then last. What clocks differ by is allowed for.
const (
	valid = 5 * time.Minute
	skew  = time.Minute
)

// A Key is an authority's key as it is stored.
type Key struct {
	Serial int64     // 1, 2, 3 …
	Signs  time.Time // from when on
	Public []byte
	Sealed []byte // the private half
}

// ErrConflict: somebody else has made the key of that serial, which is the one to take.
var ErrConflict = errors.New("another appliance has made the next key")

// ErrSeal: a key of the authority is sealed by another key than this appliance has.
var ErrSeal = errors.New("the SSH authority's keys are sealed by another key than this appliance has")

// A Store keeps keys.
type Store interface {
	Keys(context.Context) ([]Key, error)            // those that have not been retired, the latest first
	Add(context.Context, Key) error                 // may be ErrConflict
	Retire(context.Context, int64, time.Time) error // a serial, from when on
}

// An Authority signs.
type Authority struct {
	store Store
	seal  cipher.AEAD
	now   func() time.Time

	mu   sync.Mutex
	keys []authorityKey // the latest first
}

type authorityKey struct {
	Key
	signer ssh.Signer
}

// Open reads the authority's keys, and makes the first if there is none. seal is a key of 32 bytes.
func Open(ctx context.Context, s Store, seal []byte, now func() time.Time) (*Authority, error) {
	block, err := aes.NewCipher(seal)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	a := &Authority{store: s, seal: aead, now: now}
	if err := a.Reload(ctx); err != nil {
		return nil, err
	}
	if len(a.keys) > 0 {
		return a, nil
	}
	if err := a.add(ctx, 1, now()); err != nil && !errors.Is(err, ErrConflict) {
		return nil, err
	}
	return a, a.Reload(ctx)
}

// Reload reads the keys again, after another appliance may have made one.
func (a *Authority) Reload(ctx context.Context) error {
	stored, err := a.store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("read the SSH authority's keys: %w", err)
	}
	var keys []authorityKey
	for _, k := range stored {
		seed, err := a.seal.Open(nil, nil, k.Sealed, name(k.Serial))
		if err != nil || len(seed) != ed25519.SeedSize {
			return ErrSeal
		}
		signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed))
		if err != nil {
			return err
		}
		keys = append(keys, authorityKey{k, signer})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = keys
	return nil
}

// name binds a sealed key to its place.
func name(serial int64) []byte { return fmt.Appendf(nil, "sallyport ssh user ca %d", serial) }

func (a *Authority) add(ctx context.Context, serial int64, signs time.Time) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	return a.store.Add(ctx, Key{Serial: serial, Signs: signs, Public: public,
		Sealed: a.seal.Seal(nil, nil, private.Seed(), name(serial))})
}

// Rotate makes the next key, which signs after the overlap, and retires the others after another. It returns when it
// signs.
func (a *Authority) Rotate(ctx context.Context, overlap time.Duration) (time.Time, error) {
	a.mu.Lock()
	keys := a.keys
	a.mu.Unlock()
	signs := a.now().Add(overlap)
	if err := a.add(ctx, keys[0].Serial+1, signs); err != nil {
		return time.Time{}, err
	}
	for _, k := range keys {
		if err := a.store.Retire(ctx, k.Serial, signs.Add(max(overlap, valid))); err != nil {
			return time.Time{}, err
		}
	}
	return signs, a.Reload(ctx)
}

// Lines are the keys that targets are to trust, as TrustedUserCAKeys has them, the latest first.
func (a *Authority) Lines() (lines []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.keys {
		line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.signer.PublicKey())))
		lines = append(lines, fmt.Sprintf("%s sallyport-ssh-ca-%d", line, k.Serial))
	}
	return lines
}

// A Subject is whom a certificate is for.
type Subject struct {
	ID         string   // what the target's log calls the key
	Principals []string // at least one
}

// Sign signs a key. Extensions are those of a shell and of forwarding; what they may do a target's sshd limits.
func (a *Authority) Sign(key ssh.PublicKey, s Subject) (*ssh.Certificate, error) {
	if _, nested := key.(*ssh.Certificate); nested || len(s.Principals) == 0 {
		return nil, errors.New("sshca: a key and a principal are needed")
	}
	signer, err := a.signer()
	if err != nil {
		return nil, err
	}
	var serial [8]byte
	rand.Read(serial[:])
	now := a.now()
	cert := &ssh.Certificate{Key: key, Serial: binary.BigEndian.Uint64(serial[:]), CertType: ssh.UserCert, KeyId: s.ID, ValidPrincipals: s.Principals,
		ValidAfter: uint64(now.Add(-skew).Unix()), ValidBefore: uint64(now.Add(valid).Unix())}
	cert.Extensions = map[string]string{"permit-pty": "", "permit-port-forwarding": "", "permit-agent-forwarding": ""}
	return cert, cert.SignCert(rand.Reader, signer)
}

// signer is the latest key that signs already.
func (a *Authority) signer() (ssh.Signer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.keys {
		if !k.Signs.After(a.now()) {
			return k.signer, nil
		}
	}
	return nil, errors.New("sshca: no key signs yet")
}
