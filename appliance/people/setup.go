package people

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/store"
)

// ErrSetup is the answer to a set-up code that is unknown, used or too old.
var ErrSetup = &auth.Error{Code: "E_SETUP_CODE", Sentence: "this set-up link is not known here any more", Hint: "ask an administrator for a new one; it works once and for a day"}

// ErrNoAccount is the answer to the set-up of an account that is gone.
var ErrNoAccount = &auth.Error{Code: "E_ACCOUNT_UNKNOWN", Sentence: "there is no such account", Hint: "ask an administrator"}

// hashOf is what is kept of a set-up code.
func hashOf(code string) []byte {
	sum := sha256.Sum256([]byte(strings.TrimSpace(code)))
	return sum[:]
}

// SetupOf says whose account a set-up code is for, without using it.
func (a *Accounts) SetupOf(ctx context.Context, code string) (user string, err error) {
	o, err := a.Store.Look(ctx, store.SetUp, hashOf(code), time.Now())
	if errors.Is(err, store.ErrNotFound) {
		return "", ErrSetup
	}
	return string(o.Data), err
}

// A Setup is what a person has chosen for an account.
type Setup struct {
	Password string // a hash
	TOTP     string // the secret; may be empty
	Counter  uint64 // of the code by which it was tried
	Recovery [][32]byte
	Passkey  *passkey.Credential // may be nil
}

// SetUp uses a set-up code: the account has what its owner chose, and nothing else.
func (a *Accounts) SetUp(ctx context.Context, code string, s Setup) (user string, err error) {
	o, err := a.Store.Take(ctx, store.SetUp, hashOf(code), time.Now())
	if errors.Is(err, store.ErrNotFound) {
		return "", ErrSetup
	}
	if err != nil {
		return "", err
	}
	user = string(o.Data)
	set, err := a.credentials(user, s)
	if err != nil {
		return "", err
	}
	// The password comes last: nobody signs in to half an account.
	for _, kind := range []string{store.TOTP, store.Passkey, store.Recovery, store.Password} {
		if err := a.Store.ReplaceCredentials(ctx, user, kind, set[kind]); err != nil {
			if errors.Is(err, store.ErrNotFound) {
				err = ErrNoAccount
			}
			return "", err
		}
	}
	return user, nil
}

// credentials are what has been chosen, by kind.
func (a *Accounts) credentials(user string, s Setup) (map[string][]store.Credential, error) {
	set := map[string][]store.Credential{}
	add := func(kind string, data []byte, counter uint64) {
		set[kind] = append(set[kind], store.Credential{ID: rand.Text(), Account: user, Kind: kind, Data: data, Counter: int64(counter), Created: time.Now()})
	}
	if s.Password != "" {
		add(store.Password, []byte(s.Password), 0)
	}
	if s.TOTP != "" {
		add(store.TOTP, a.Box.Seal([]byte(s.TOTP), totpLabel(user)), s.Counter)
	}
	for _, r := range s.Recovery {
		add(store.Recovery, r[:], 0)
	}
	if s.Passkey != nil {
		data, err := json.Marshal(s.Passkey)
		if err != nil {
			return nil, err
		}
		add(store.Passkey, data, 0)
	}
	return set, nil
}
