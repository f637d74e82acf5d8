package people

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sallyport/appliance/auth/oidc"
	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/auth/signin"
	"sallyport/appliance/store"
)

// Accounts are those in the database. They implement signin.Accounts.
type Accounts struct {
	Store *store.Store
	Box   *Box
}

var handles = base64.RawURLEncoding

// Account implements signin.Accounts.
func (a *Accounts) Account(ctx context.Context, user string) (signin.Account, bool, error) {
	row, err := a.Store.Account(ctx, user)
	return a.local(ctx, row, err)
}

// AccountByHandle implements signin.Accounts.
func (a *Accounts) AccountByHandle(ctx context.Context, handle []byte) (signin.Account, bool, error) {
	row, err := a.Store.AccountOf(ctx, store.Local, handles.EncodeToString(handle))
	return a.local(ctx, row, err)
}

// local adds its credentials to a row; false if that is none of a local account.
func (a *Accounts) local(ctx context.Context, row store.Account, err error) (signin.Account, bool, error) {
	if errors.Is(err, store.ErrNotFound) || err == nil && row.Source != store.Local {
		return signin.Account{}, false, nil
	}
	if err != nil {
		return signin.Account{}, false, err
	}
	out := signin.Account{User: row.Name, Groups: row.Groups, Locked: !row.Disabled.IsZero(), ValidFrom: row.ValidFrom}
	if row.Created.After(out.ValidFrom) { // who had the name before is somebody else
		out.ValidFrom = row.Created
	}
	if out.Handle, err = handles.DecodeString(row.Subject); err != nil {
		return out, false, fmt.Errorf("the passkey handle of %s: %w", row.Name, err)
	}
	credentials, err := a.Store.Credentials(ctx, row.Name)
	if err != nil {
		return out, false, err
	}
	for _, c := range credentials {
		if err := a.add(&out, c); err != nil {
			return out, false, err
		}
	}
	return out, true, nil
}

func (a *Accounts) add(out *signin.Account, c store.Credential) error {
	switch c.Kind {
	case store.Password:
		out.Password = string(c.Data)
	case store.TOTP:
		secret, err := a.Box.Open(c.Data, totpLabel(out.User))
		if err != nil {
			return err
		}
		out.TOTP = string(secret)
	case store.Recovery:
		if len(c.Data) == 32 && c.Used.IsZero() {
			out.Recovery = append(out.Recovery, [32]byte(c.Data))
		}
	case store.Passkey:
		var p passkey.Credential
		if err := json.Unmarshal(c.Data, &p); err != nil {
			return fmt.Errorf("a passkey of %s: %w", out.User, err)
		}
		out.Passkeys = append(out.Passkeys, p)
	}
	return nil
}

func totpLabel(user string) string { return "totp of " + user }

// find returns the credential of an account that fits.
func (a *Accounts) find(ctx context.Context, user, kind string, fits func(store.Credential) bool) (store.Credential, bool, error) {
	all, err := a.Store.Credentials(ctx, user)
	if err != nil {
		return store.Credential{}, false, err
	}
	for _, c := range all {
		if c.Kind == kind && fits(c) {
			return c, true, nil
		}
	}
	return store.Credential{}, false, nil
}

func whichever(store.Credential) bool { return true }

// once says whether the database took something for the first time.
func once(err error) (bool, error) {
	if errors.Is(err, store.ErrConflict) {
		return false, nil
	}
	return err == nil, err
}

// UseTOTP implements signin.Accounts.
func (a *Accounts) UseTOTP(ctx context.Context, user string, counter uint64) (bool, error) {
	c, there, err := a.find(ctx, user, store.TOTP, whichever)
	if err != nil || !there {
		return false, err
	}
	return once(a.Store.UseCounter(ctx, c.ID, int64(counter), time.Now()))
}

// UseRecovery implements signin.Accounts.
func (a *Accounts) UseRecovery(ctx context.Context, user string, code [32]byte) (bool, error) {
	c, there, err := a.find(ctx, user, store.Recovery, func(c store.Credential) bool { return bytes.Equal(c.Data, code[:]) })
	if err != nil || !there {
		return false, err
	}
	return once(a.Store.UseOnce(ctx, c.ID, time.Now()))
}

// SetPassword implements signin.Accounts.
func (a *Accounts) SetPassword(ctx context.Context, user, was, is string) error {
	c, there, err := a.find(ctx, user, store.Password, func(c store.Credential) bool { return string(c.Data) == was })
	if err != nil || !there {
		return err
	}
	_, err = once(a.Store.UseCredential(ctx, c.ID, c.Data, []byte(is), time.Now()))
	return err
}

// SetPasskey implements signin.Accounts.
func (a *Accounts) SetPasskey(ctx context.Context, user string, p passkey.Credential) error {
	var old passkey.Credential
	c, there, err := a.find(ctx, user, store.Passkey, func(c store.Credential) bool {
		old = passkey.Credential{}
		return json.Unmarshal(c.Data, &old) == nil && bytes.Equal(old.ID, p.ID)
	})
	if err != nil || !there {
		return err
	}
	p.Name = old.Name
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	_, err = once(a.Store.UseCredential(ctx, c.ID, c.Data, data, time.Now()))
	return err
}

// Bind implements signin.Accounts.
func (a *Accounts) Bind(ctx context.Context, who oidc.Identity) error {
	for range 2 { // somebody may be faster
		row, err := a.Store.Account(ctx, who.User)
		switch {
		case err == nil && (row.Source != who.Issuer || row.Subject != who.Subject):
			return signin.ErrNameTaken
		case err == nil && !row.Disabled.IsZero():
			return signin.ErrLocked
		case err == nil || !errors.Is(err, store.ErrNotFound):
			return err
		}
		err = a.Store.AddAccount(ctx, store.Account{Name: who.User, Source: who.Issuer, Subject: who.Subject, Created: time.Now()})
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return signin.ErrNameTaken // the person has another name here
}
