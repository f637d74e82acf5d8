package people

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/store"
)

// ErrNoFactor is the answer to the removal of what an account does not have.
var ErrNoFactor = &auth.Error{Code: "E_FACTOR_UNKNOWN", Sentence: "the account does not have this any more"}

// ErrLastFactor is the answer to who would be left with a password alone, where that signs nobody in.
var ErrLastFactor = &auth.Error{Code: "E_FACTOR_LAST", Sentence: "this is the only second step of the account", Hint: "add a passkey or an authenticator app first"}

// The kinds of what a person signs in with.
const (
	Password = store.Password
	Passkey  = store.Passkey
	TOTP     = store.TOTP
	Recovery = store.Recovery
)

// kinds are in the order in which people see them.
var kinds = []string{Password, Passkey, TOTP, Recovery}

// A Factor is something by which a person signs in, as they see it.
type Factor struct {
	ID    string
	Kind  string // Recovery stands for all of the codes
	Name  string // that a passkey was given
	Added time.Time
	Used  time.Time // zero before the first use, and of a password
	Left  int       // recovery codes that are good
}

// Removable says whether its owner may do without it.
func (f Factor) Removable() bool { return f.Kind == Passkey || f.Kind == TOTP }

// Factors are what a local account signs in with.
func (a *Accounts) Factors(ctx context.Context, user string) ([]Factor, error) {
	all, err := a.Store.Credentials(ctx, user)
	if err != nil {
		return nil, err
	}
	factors := []Factor{}
	for _, kind := range kinds {
		for _, c := range all {
			if c.Kind != kind {
				continue
			}
			f := Factor{ID: c.ID, Kind: c.Kind, Added: c.Created}
			switch kind {
			case Passkey:
				var p passkey.Credential
				if err := json.Unmarshal(c.Data, &p); err != nil {
					return nil, fmt.Errorf("a passkey of %s: %w", user, err)
				}
				f.Name, f.Used = p.Name, c.Used
			case TOTP:
				f.Used = c.Used
			case Recovery:
				factors = addRecovery(factors, f, c.Used)
				continue
			}
			factors = append(factors, f)
		}
	}
	return factors, nil
}

// addRecovery adds a recovery code to those that there are already, which are one factor.
func addRecovery(factors []Factor, f Factor, used time.Time) []Factor {
	i := slices.IndexFunc(factors, func(other Factor) bool { return other.Kind == Recovery })
	if i < 0 {
		f.ID = ""
		factors, i = append(factors, f), len(factors)
	}
	if used.IsZero() {
		factors[i].Left++
	} else if used.After(factors[i].Used) {
		factors[i].Used = used
	}
	return factors
}

// Change puts what a person has chosen in the place of what their account had of its kind. A passkey comes beside those that
// it has.
func (a *Accounts) Change(ctx context.Context, user string, s Setup) error {
	set, err := a.credentials(user, s)
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		if kind == Passkey && s.Passkey != nil {
			err = a.Store.AddCredential(ctx, set[kind][0])
		} else if len(set[kind]) > 0 {
			err = a.Store.ReplaceCredentials(ctx, user, kind, set[kind])
		}
		if errors.Is(err, store.ErrNotFound) {
			return ErrNoAccount
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Remove takes a passkey or an authenticator app from an account. Where kinds are named, one of those is left.
func (a *Accounts) Remove(ctx context.Context, user string, f Factor, left ...string) error {
	if !f.Removable() {
		return ErrNoFactor
	}
	err := a.Store.RemoveCredential(ctx, user, f.ID, left...)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return ErrNoFactor
	case errors.Is(err, store.ErrConflict):
		return ErrLastFactor
	}
	return err
}

// EndBegun has those come to nothing who have signed in to an account in a browser before a time, and are on no device yet.
func (a *Accounts) EndBegun(ctx context.Context, user string, before time.Time) error {
	return a.Store.ValidFrom(ctx, user, before)
}
