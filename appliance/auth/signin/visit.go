package signin

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sallyport/appliance/auth/pending"
)

// A Visit is what a browser gets for a step that succeeded.
type Visit struct {
	Secret string   // for its cookie, in place of the one before
	User   string   // who it is, or says they are while SignedIn is false
	Next   []string // the second factors that are left to choose from: "totp", "recovery", "passkey"

	SignedIn bool
	Known    string // a cookie for this user that outlives the visit (lockout.Cookies); empty if there is no new one
}

// visit is what is kept of it.
type visit struct {
	SignedIn bool
	Person   Person // User and Method only, until SignedIn
	Known    bool   // the browser has a cookie of the user already
}

// enter keeps a visit under a new secret.
func (s *Service) enter(ctx context.Context, v visit) (Visit, error) {
	if v.SignedIn {
		v.Person.Here = s.Clock()
	}
	value, err := json.Marshal(v)
	if err != nil {
		return Visit{}, err
	}
	secret := rand.Text()
	if err := s.Visits.Put(ctx, "visit "+secret, value, visitTime); err != nil {
		return Visit{}, fmt.Errorf("keep a visit: %w", err)
	}
	out := Visit{Secret: secret, User: v.Person.User, SignedIn: v.SignedIn}
	if v.SignedIn && !v.Known {
		out.Known = s.Cookies.New(v.Person.User)
	}
	return out, nil
}

// look returns a visit as it is.
func (s *Service) look(ctx context.Context, secret string) (visit, error) {
	return s.read(s.Visits.Look(ctx, "visit "+secret))
}

// leave takes a visit back, once: of two who finish the same one, one does.
func (s *Service) leave(ctx context.Context, secret string) (visit, error) {
	return s.read(s.Visits.Take(ctx, "visit "+secret))
}

func (s *Service) read(value []byte, err error) (visit, error) {
	var v visit
	if errors.Is(err, pending.ErrUnknown) {
		return v, ErrVisit
	}
	if err != nil {
		return v, fmt.Errorf("find a visit: %w", err)
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return v, fmt.Errorf("read a visit: %w", err)
	}
	return v, nil
}

// proofTime is how long what a person has shown is good for changing what they sign in with.
const proofTime = 5 * time.Minute

// Proved returns the account of a person who has just shown in this browser all that they sign in with, and when that was.
// The visit goes on. People of identity providers have nothing to change here.
func (s *Service) Proved(ctx context.Context, secret string) (Account, time.Time, error) {
	v, err := s.look(ctx, secret)
	if err != nil {
		return Account{}, time.Time{}, err
	}
	at := v.Person.Here
	if !v.SignedIn || v.Person.Issuer != "" || s.Clock().Sub(at) >= proofTime {
		return Account{}, time.Time{}, ErrVisit
	}
	a, known, err := s.Accounts.Account(ctx, v.Person.User)
	switch {
	case err != nil:
		return Account{}, time.Time{}, err
	case !known || at.Before(a.ValidFrom):
		return Account{}, time.Time{}, ErrVisit
	case a.Locked:
		return Account{}, time.Time{}, ErrLocked
	}
	return a, at, nil
}

// SignOut forgets a visit. The device that it confirmed is not affected.
func (s *Service) SignOut(ctx context.Context, secret string) error {
	if _, err := s.leave(ctx, secret); err != nil && !errors.Is(err, ErrVisit) {
		return err
	}
	return nil
}

// Halfway says whose visit it is whose password was right, and which second factors they have.
func (s *Service) Halfway(ctx context.Context, secret string) (user string, next []string) {
	v, a, err := s.halfway(ctx, secret)
	if err != nil {
		return "", nil
	}
	return v.Person.User, s.seconds(a)
}
