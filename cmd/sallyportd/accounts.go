package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"sallyport/appliance"
	"sallyport/appliance/api"
	"sallyport/appliance/people"
	"sallyport/appliance/store"
)

// accounts are the database's, as the gateway wants them. It implements appliance.Accounts.
type accounts struct{ store *store.Store }

// setUpLife is how long a set-up link is good.
const setUpLife = 24 * time.Hour

// setUp makes a link for an account: 128 random bits in the fragment, which no server and no log sees. What is kept is
// their hash.
func setUp(user string, now time.Time) (link api.SetUp, hash []byte) {
	var secret [16]byte
	rand.Read(secret[:]) // never fails: it would end the process
	code := base64.RawURLEncoding.EncodeToString(secret[:])
	sum := sha256.Sum256([]byte(code))
	return api.SetUp{User: user, Path: "/setup#" + code, Expires: now.Add(setUpLife).UTC()}, sum[:]
}

// List implements appliance.Accounts.
func (a accounts) List(ctx context.Context) ([]api.Account, error) {
	all, err := a.store.Accounts(ctx)
	if err != nil {
		return nil, accountFault(err)
	}
	kinds, err := a.store.CredentialKinds(ctx)
	if err != nil {
		return nil, accountFault(err)
	}
	list := []api.Account{}
	for _, one := range all {
		list = append(list, api.Account{User: one.Name, Source: one.Source, Groups: slices.Concat([]string{}, one.Groups), Created: one.Created.UTC(),
			Disabled: one.Disabled, LastLogin: one.LastLogin, Has: kinds[one.Name]})
	}
	return list, nil
}

// Add implements appliance.Accounts.
func (a accounts) Add(ctx context.Context, user string, groups []string) (api.SetUp, error) {
	now := time.Now()
	link, hash := setUp(user, now)
	err := a.store.OpenAccount(ctx, store.Account{Name: user, Source: store.Local, Subject: store.NewSubject(), Created: now, Groups: groups}, hash, link.Expires)
	if errors.Is(err, store.ErrConflict) {
		return api.SetUp{}, appliance.ErrAccountTaken
	}
	if err != nil {
		return api.SetUp{}, accountFault(err)
	}
	return link, nil
}

// Reset implements appliance.Accounts.
func (a accounts) Reset(ctx context.Context, user string, ask api.ResetAccount) (api.SetUp, error) {
	var kinds []string
	if ask.Password || !ask.SecondFactor {
		kinds = append(kinds, store.Password)
	}
	if ask.SecondFactor || !ask.Password {
		kinds = append(kinds, store.TOTP, store.Passkey, store.Recovery)
	}
	now := time.Now()
	link, hash := setUp(user, now)
	err := a.store.ResetAccount(ctx, user, kinds, hash, link.Expires, now)
	if errors.Is(err, store.ErrConflict) {
		return api.SetUp{}, appliance.ErrElsewhere
	}
	if err != nil {
		return api.SetUp{}, accountFault(err)
	}
	return link, nil
}

// Disable implements appliance.Accounts.
func (a accounts) Disable(ctx context.Context, user string, disabled bool) error {
	var at time.Time
	if disabled {
		at = time.Now()
	}
	return accountFault(a.store.DisableAccount(ctx, user, at))
}

// Remove implements appliance.Accounts.
func (a accounts) Remove(ctx context.Context, user string) error {
	one, err := a.store.Account(ctx, user)
	if err == nil && one.Source != store.Local {
		return appliance.ErrComesBack
	}
	if err == nil {
		err = a.store.RemoveAccount(ctx, user, time.Now())
	}
	return accountFault(err)
}

// Factors implements appliance.Accounts.
func (a accounts) Factors(ctx context.Context, user string) (api.Factors, error) {
	one, err := a.store.Account(ctx, user)
	if errors.Is(err, store.ErrNotFound) { // who has come with a code
		return api.Factors{}, nil
	}
	if err != nil || one.Source != store.Local {
		return api.Factors{Source: one.Source}, accountFault(err)
	}
	all, err := (&people.Accounts{Store: a.store}).Factors(ctx, user)
	if err != nil {
		return api.Factors{}, accountFault(err)
	}
	out := api.Factors{Source: store.Local}
	for _, f := range all {
		out.Factors = append(out.Factors, api.Factor{Kind: f.Kind, Name: f.Name, Added: f.Added.UTC(), Used: f.Used, Left: f.Left})
	}
	return out, nil
}

// SignIns implements appliance.Accounts.
func (a accounts) SignIns(ctx context.Context, user string) ([]api.SignIn, error) {
	all, err := a.store.SignIns(ctx, user, time.Now())
	if err != nil {
		return nil, accountFault(err)
	}
	list := []api.SignIn{}
	for _, n := range all {
		list = append(list, signInOf(n))
	}
	return list, nil
}

func signInOf(n store.SignIn) api.SignIn {
	return api.SignIn{ID: n.ID, User: n.Account, Device: n.Device, Provider: n.Provider, Groups: n.Groups, MFA: n.MFA, Created: n.Created.UTC(), Expires: n.Expires.UTC()}
}

// EndSignIns implements appliance.Accounts.
func (a accounts) EndSignIns(ctx context.Context, which api.EndSignIns) ([]api.SignIn, error) {
	now := time.Now()
	if which.User != "" {
		ended, err := a.SignIns(ctx, which.User)
		if err == nil {
			err = accountFault(a.store.EndSignInsOf(ctx, which.User, now))
		}
		return ended, err
	}
	n, err := a.store.SignIn(ctx, which.ID)
	if errors.Is(err, store.ErrNotFound) || err == nil && !n.Ended.IsZero() {
		return nil, appliance.ErrNoSignIn
	}
	if err == nil {
		err = a.store.EndSignIn(ctx, which.ID, now)
	}
	return []api.SignIn{signInOf(n)}, accountFault(err)
}

// accountFault is an error of the database as the gateway wants it.
func accountFault(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return appliance.ErrNoAccount
	}
	return controlFault(err)
}
