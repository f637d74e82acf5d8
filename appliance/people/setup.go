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

// A Setup is what a person has chosen for a new account.
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
	now := time.Now()
	set := map[string][]store.Credential{store.Password: {{ID: rand.Text(), Data: []byte(s.Password), Created: now}}}
	if s.TOTP != "" {
		set[store.TOTP] = []store.Credential{{ID: rand.Text(), Data: a.Box.Seal([]byte(s.TOTP), totpLabel(user)), Counter: int64(s.Counter), Created: now}}
	}
	for _, r := range s.Recovery {
		set[store.Recovery] = append(set[store.Recovery], store.Credential{ID: rand.Text(), Data: r[:], Created: now})
	}
	if s.Passkey != nil {
		data, err := json.Marshal(s.Passkey)
		if err != nil {
			return "", err
		}
		set[store.Passkey] = []store.Credential{{ID: rand.Text(), Data: data, Created: now}}
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
