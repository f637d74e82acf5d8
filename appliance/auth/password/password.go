// Package password keeps and checks the passwords of local accounts.
//
//	h := password.New(password.Config{})
//	if err := password.Check("ann", typed); err != nil { … } // the rules, said to the person
//	stored, err := h.Hash(ctx, typed)                        // "$argon2id$v=19$m=19456,t=2,p=1$…"
//	match, err := h.Verify(ctx, stored, typed)               // match.OK, and match.Rehash if stored is of older parameters
//
// # What it costs
//
// A hash is Argon2id with 19 MiB and two passes. Two run at once and sixteen more wait; who comes then gets ErrBusy at
// once. So a flood of logins costs a small machine 38 MiB and its processors, and never all of its memory.
//
// # What it does not tell
//
// Verify takes as long for an account that does not exist, or has no password, as for one whose password is wrong: an
// empty stored string is compared with a decoy of the same parameters.
package password

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"sallyport/appliance/auth"
)

// ErrBusy is the answer when the queue is full.
var ErrBusy = &auth.Error{Code: "E_LOGIN_BUSY", Sentence: "too many people are signing in at this moment", Hint: "try again in a few seconds"}

// Config bounds a Hasher.
type Config struct {
	Running int // hashes at once; default 2
	Waiting int // callers that wait for their turn; default 16

	// Memory in KiB, Passes and Lanes are what new hashes cost; the defaults are 19456, 2 and 1.
	Memory uint32
	Passes uint32
	Lanes  uint8
}

func (c Config) withDefaults() Config {
	c.Running = cmp.Or(c.Running, 2)
	c.Waiting = cmp.Or(c.Waiting, 16)
	c.Memory = cmp.Or(c.Memory, 19*1024)
	c.Passes = cmp.Or(c.Passes, 2)
	c.Lanes = cmp.Or(c.Lanes, 1)
	return c
}

// A Hasher hashes and compares passwords, a bounded number at a time.
type Hasher struct {
	params   params
	decoy    hash
	admitted chan struct{} // those that run and those that wait
	running  chan struct{}
}

// New returns a Hasher.
func New(c Config) *Hasher {
	c = c.withDefaults()
	h := &Hasher{
		params:   params{memory: c.Memory, passes: c.Passes, lanes: c.Lanes},
		admitted: make(chan struct{}, c.Running+c.Waiting),
		running:  make(chan struct{}, c.Running),
	}
	h.decoy = hash{params: h.params, salt: random(saltSize), sum: random(sumSize)}
	return h
}

// Hash returns what to keep of a password.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	made := hash{params: h.params, salt: random(saltSize)}
	sum, err := h.derive(ctx, made, password)
	if err != nil {
		return "", err
	}
	made.sum = sum
	return made.String(), nil
}

// A Match says how a password compares.
type Match struct {
	OK     bool
	Rehash bool // it is right, and what is kept of it should be made anew by Hash
}

// Verify compares a password with what is kept of it; empty is kept of an account that has none or does not exist. The
// error is ErrBusy, the end of ctx, or that stored is no hash.
func (h *Hasher) Verify(ctx context.Context, stored, password string) (Match, error) {
	kept, exists := h.decoy, stored != ""
	if exists {
		var err error
		if kept, err = parse(stored); err != nil {
			return Match{}, err
		}
	}
	if len(password) > maxBytes {
		return Match{}, nil // whatever is stored, so this tells nothing
	}
	sum, err := h.derive(ctx, kept, password)
	if err != nil {
		return Match{}, err
	}
	if subtle.ConstantTimeCompare(sum, kept.sum) != 1 || !exists {
		return Match{}, nil
	}
	return Match{OK: true, Rehash: kept.weaker(h.params)}, nil
}

// derive waits for its turn and runs Argon2id.
func (h *Hasher) derive(ctx context.Context, k hash, password string) ([]byte, error) {
	select {
	case h.admitted <- struct{}{}:
		defer func() { <-h.admitted }()
	default:
		return nil, ErrBusy
	}
	select {
	case h.running <- struct{}{}:
		defer func() { <-h.running }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	// One password has several spellings in Unicode, and keyboards differ in which they send.
	same := norm.NFC.String(password)
	return argon2.IDKey([]byte(same), k.salt, k.passes, k.memory, k.lanes, uint32(cmp.Or(len(k.sum), sumSize))), nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: it would end the process
	return b
}
