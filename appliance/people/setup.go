package people

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/auth/signin"
	"sallyport/appliance/store"
)

// ErrSetup is the answer to a set-up code that is unknown, used or too old.
var ErrSetup = &auth.Error{Code: "E_SETUP_CODE", Sentence: "this set-up link is not known here any more", Hint: "ask an administrator for a new one; it works once and for a day"}

const (
	setupKind = "account-setup"
	setupTime = 24 * time.Hour
)

// List are all accounts, by name.
func (a *Accounts) List(ctx context.Context) ([]auth.Account, error) {
	rows, err := a.Store.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]auth.Account, 0, len(rows))
	for _, row := range rows {
		e := auth.Account{User: row.Name, Created: row.Created, Disabled: row.Disabled, LastLogin: row.LastLogin}
		if row.Source != store.Local {
			e.Source = row.Source
			list = append(list, e)
			continue
		}
		l, _, err := a.local(ctx, row, nil)
		if err != nil {
			return nil, err
		}
		e.Factors = factors(l)
		list = append(list, e)
	}
	return list, nil
}

func factors(l signin.Account) (has []string) {
	if l.Password != "" {
		has = append(has, store.Password)
	}
	if l.TOTP != "" {
		has = append(has, store.TOTP)
	}
	if len(l.Passkeys) > 0 {
		has = append(has, store.Passkey)
	}
	return has
}

// Add makes a local account without credentials, and returns the code by which its owner sets it up.
func (a *Accounts) Add(ctx context.Context, user string) (code string, err error) {
	if err := auth.CheckUser(user); err != nil {
		return "", err
	}
	err = a.Store.AddAccount(ctx, store.Account{Name: user, Source: store.Local, Subject: handles.EncodeToString(passkey.NewHandle()), Created: time.Now()})
	if errors.Is(err, store.ErrConflict) {
		return "", &auth.Error{Code: auth.ErrName.Code, Sentence: "there is an account of this name already", Hint: "sallyport admin accounts reset makes a new set-up link for it"}
	}
	if err != nil {
		return "", err
	}
	return a.setupCode(ctx, user)
}

func (a *Accounts) setupCode(ctx context.Context, user string) (string, error) {
	code, hash := auth.RandomCode()
	return code, a.Store.Keep(ctx, store.OneTime{Kind: setupKind, Hash: hash[:], Data: []byte(user), Expires: time.Now().Add(setupTime)})
}

// ErrNoAccount is the answer to a name of no local account.
var ErrNoAccount = &auth.Error{Code: "E_ACCOUNT_UNKNOWN", Sentence: "there is no such account here", Hint: "sallyport admin accounts lists them"}

func unknown(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return ErrNoAccount
	}
	return err
}

// Reset takes all credentials off a local account, ends its sign-ins, and returns a new set-up code.
func (a *Accounts) Reset(ctx context.Context, user string) (code string, err error) {
	row, err := a.Store.Account(ctx, user)
	if err != nil || row.Source != store.Local {
		return "", unknown(errors.Join(err, store.ErrNotFound))
	}
	for _, kind := range []string{store.Password, store.TOTP, store.Passkey, store.Recovery} {
		if err := a.Store.ReplaceCredentials(ctx, user, kind, nil); err != nil {
			return "", err
		}
	}
	if err := a.Store.EndSignInsOf(ctx, user, time.Now()); err != nil {
		return "", err
	}
	return a.setupCode(ctx, user)
}

// Disable bars an account and ends its sign-ins; Enable lets it in again.
func (a *Accounts) Disable(ctx context.Context, user string) error {
	if err := a.Store.DisableAccount(ctx, user, time.Now()); err != nil {
		return unknown(err)
	}
	return a.Store.EndSignInsOf(ctx, user, time.Now())
}

// Enable is the other way round.
func (a *Accounts) Enable(ctx context.Context, user string) error {
	return unknown(a.Store.DisableAccount(ctx, user, time.Time{}))
}

// Remove removes an account with all that it has, and ends its sign-ins.
func (a *Accounts) Remove(ctx context.Context, user string) error {
	return unknown(a.Store.RemoveAccount(ctx, user, time.Now()))
}

// SetupOf says whose account a set-up code is for, without using it.
func (a *Accounts) SetupOf(ctx context.Context, code string) (user string, err error) {
	hash, plausible := auth.HashCode(code)
	if !plausible {
		return "", ErrSetup
	}
	o, err := a.Store.Look(ctx, setupKind, hash[:], time.Now())
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
	hash, plausible := auth.HashCode(code)
	if !plausible {
		return "", ErrSetup
	}
	o, err := a.Store.Take(ctx, setupKind, hash[:], time.Now())
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
			return "", unknown(err)
		}
	}
	return user, nil
}
