package people

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/oidc"
	"sallyport/appliance/auth/signin"
	"sallyport/appliance/store"
)

// SignIns are those in the database. They implement auth.SignInStore.
type SignIns struct {
	Store *store.Store
	Box   *Box
}

// SignIns implements auth.SignInStore.
func (s SignIns) SignIns(ctx context.Context) ([]auth.SignIn, error) {
	rows, err := s.Store.SignIns(ctx, "", time.Now())
	if err != nil {
		return nil, err
	}
	accounts, err := s.Store.Accounts(ctx)
	if err != nil {
		return nil, err
	}
	groups := map[string][]string{}
	for _, a := range accounts {
		groups[a.Name] = a.Groups
	}
	all := make([]auth.SignIn, 0, len(rows))
	for _, n := range rows {
		all = append(all, fromRow(n, groups[n.Account]))
	}
	return all, nil
}

// SignIn implements auth.SignInStore.
func (s SignIns) SignIn(ctx context.Context, id string) (auth.SignIn, error) {
	n, err := s.Store.SignIn(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return auth.SignIn{}, auth.ErrSignedOut
	}
	if err != nil {
		return auth.SignIn{}, err
	}
	a, err := s.Store.Account(ctx, n.Account)
	if errors.Is(err, store.ErrNotFound) { // the sign-in has ended, or is about to
		err = nil
	}
	return fromRow(n, a.Groups), err
}

// EndSignIn implements auth.SignInStore.
func (s SignIns) EndSignIn(ctx context.Context, id string, at time.Time) error {
	return s.Store.EndSignIn(ctx, id, at)
}

// Watch implements auth.SignInStore.
func (s SignIns) Watch(ctx context.Context, f func(id string) error) error {
	return s.Store.Watch(ctx, func(c store.Change) error {
		switch c.Subject {
		case store.OfSignIn, "":
			return f(c.Key)
		case store.OfAccount: // which may be in other groups now
			rows, err := s.Store.SignIns(ctx, c.Key, time.Now())
			for _, n := range rows {
				err = errors.Join(err, f(n.ID))
			}
			return err
		}
		return nil
	})
}

// fromRow is a sign-in with the groups that its provider names and those that its account is in here.
func fromRow(n store.SignIn, here []string) auth.SignIn {
	groups := slices.Compact(slices.Sorted(slices.Values(slices.Concat(n.Groups, here))))
	return auth.SignIn{ID: n.ID, User: n.Account, Device: n.Device, Provider: n.Provider, Groups: groups, MFA: n.MFA,
		Began: n.Created, Expires: n.Expires, Ended: n.Ended}
}

// Add puts the sign-in of an enrolment into the database, for as long as it lasts.
func (s SignIns) Add(ctx context.Context, e signin.Enrolment, lasts time.Duration) (auth.SignIn, error) {
	now := time.Now().Truncate(time.Microsecond)
	n := store.SignIn{ID: e.SignIn, Account: e.Person.User, Device: auth.DeviceID(e.Key), Provider: store.Local,
		MFA: e.Person.MFA.Truncate(time.Microsecond), Created: now, Expires: now.Add(lasts), Refreshed: now}
	if e.Person.Issuer != "" {
		n.Provider, n.Groups = e.Person.Session.Provider, e.Person.Groups
	}
	if e.Person.Session.Refresh != "" {
		secret, err := json.Marshal(e.Person.Session)
		if err != nil {
			return auth.SignIn{}, err
		}
		n.Refresh = s.Box.Seal(secret, refreshLabel(n.ID))
	}
	if err := s.Store.AddSignIn(ctx, n); err != nil {
		return auth.SignIn{}, fmt.Errorf("keep the sign-in: %w", err)
	}
	// Whoever bars the account now finds the sign-in; who did so since the person came is asked for.
	account, err := s.Store.Account(ctx, n.Account)
	if err == nil && account.Disabled.IsZero() && !e.Person.Here.Before(account.ValidFrom) && (account.Source == store.Local) == (e.Person.Issuer == "") {
		return s.SignIn(ctx, n.ID)
	}
	if err == nil || errors.Is(err, store.ErrNotFound) {
		err = signin.ErrLocked
	}
	return auth.SignIn{}, errors.Join(err, s.Store.EndSignIn(ctx, n.ID, now))
}

func refreshLabel(id string) string { return "refresh token of " + id }

// A Refresher asks identity providers whether sign-ins still hold.
type Refresher struct {
	SignIns   SignIns
	Providers interface {
		Refresh(context.Context, oidc.Session) (oidc.Identity, error)
	}
	Every time.Duration
	Log   *slog.Logger
	// Ended is told the id of a sign-in that a provider has ended.
	Ended func(id string)
}

// asked is how many providers are asked at once.
const asked = 4

// Run asks until ctx ends.
func (r *Refresher) Run(ctx context.Context) {
	tick := time.NewTicker(min(r.Every/2, 10*time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		rows, err := r.SignIns.Store.SignIns(ctx, "", time.Now())
		if err != nil {
			continue // the database is away: what there is goes on
		}
		var wg sync.WaitGroup
		turn := make(chan struct{}, asked)
		for _, n := range rows {
			if len(n.Refresh) == 0 || time.Since(n.Refreshed) < r.Every {
				continue
			}
			turn <- struct{}{}
			wg.Go(func() {
				defer func() { <-turn }()
				if err := r.refresh(ctx, n); err != nil && ctx.Err() == nil {
					r.Log.Warn("a sign-in is not refreshed", "user", n.Account, "provider", n.Provider, "cause", err)
				}
			})
		}
		wg.Wait()
	}
}

// refresh asks about one sign-in. It is claimed first: a refresh token that two appliances use looks stolen.
func (r *Refresher) refresh(ctx context.Context, n store.SignIn) error {
	was := n.Refreshed
	n.Refreshed = time.Now().Truncate(time.Microsecond)
	if err := r.SignIns.Store.RefreshSignIn(ctx, n, was); err != nil {
		if errors.Is(err, store.ErrConflict) {
			return nil // somebody else's
		}
		return err
	}
	secret, err := r.SignIns.Box.Open(n.Refresh, refreshLabel(n.ID))
	if err != nil {
		return err
	}
	var session oidc.Session
	if err := json.Unmarshal(secret, &session); err != nil {
		return err
	}
	who, err := r.Providers.Refresh(ctx, session)
	if errors.Is(err, oidc.ErrEnded) || errors.Is(err, oidc.ErrRefused) || errors.Is(err, oidc.ErrUnknown) {
		r.Ended(n.ID)
		return err
	}
	if err != nil {
		return err // the provider is down, which ends nothing
	}
	was, n.Refreshed, n.Groups = n.Refreshed, time.Now().Truncate(time.Microsecond), who.Groups
	if !who.MFA.IsZero() {
		n.MFA = who.MFA.Truncate(time.Microsecond)
	}
	if secret, err = json.Marshal(who.Session); err != nil {
		return err
	}
	n.Refresh = r.SignIns.Box.Seal(secret, refreshLabel(n.ID))
	return r.SignIns.Store.RefreshSignIn(ctx, n, was)
}
