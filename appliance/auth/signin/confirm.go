package signin

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/lockout"
)

// A View is what a person has to see before they confirm a login.
type View struct {
	Code     string // ABCD-EFGH
	Name     string // what the device calls itself: anybody may call theirs anything
	Platform string
	Source   netip.Addr // where it asks from
	Started  time.Time
	Expires  time.Time
	State    State
}

func (l Login) view() View {
	return View{
		Code: showCode(l.Code), Name: l.Name, Platform: l.Platform, Source: l.Source,
		Started: l.Started, Expires: l.Expires, State: l.State,
	}
}

// Open finds the login of a code that somebody at source typed or came with.
func (s *Service) Open(ctx context.Context, code string, source netip.Addr) (View, error) {
	l, err := s.find(ctx, code, source)
	if err != nil {
		return View{}, err
	}
	return l.view(), nil
}

// find counts wrong codes by source.
func (s *Service) find(ctx context.Context, code string, source netip.Addr) (Login, error) {
	read, plausible := readCode(code)
	if !plausible {
		return Login{}, ErrCode // which is no guess
	}
	try, err := s.Guesses.Begin(lockout.Attempt{Account: auth.Network(source).String(), Source: source})
	if err != nil {
		return Login{}, err
	}
	l, known, err := s.Logins.ByCode(ctx, read)
	if err != nil {
		try.Cancel()
		return Login{}, err
	}
	if !known {
		return Login{}, ErrCode
	}
	// Taken back rather than forgiven: a code of one's own does not buy guesses at others'.
	try.Cancel()
	return l, nil
}

// Confirm makes the device of a code the person's who has signed in on this visit. That ends the visit: one sign-in is
// for one device. A wrong code does not.
func (s *Service) Confirm(ctx context.Context, visit, code string, source netip.Addr) (View, error) {
	v, err := s.look(ctx, visit)
	if err != nil {
		return View{}, err
	}
	if !v.SignedIn {
		return View{}, ErrVisit
	}
	l, err := s.find(ctx, code, source)
	if err != nil {
		return View{}, err
	}
	if l.State != Waiting {
		return View{}, ErrDecided
	}
	if v, err = s.leave(ctx, visit); err != nil {
		return View{}, err
	}
	return s.decide(ctx, l, func(l *Login) error {
		if l.State != Waiting {
			return ErrDecided
		}
		l.State, l.SignIn, l.Person = Confirmed, rand.Text(), v.Person
		return nil
	})
}

// Deny ends a login that the person does not know. It needs no sign-in: whoever has the code may say that it is wrong.
// To deny again is no error.
func (s *Service) Deny(ctx context.Context, code string, source netip.Addr) (View, error) {
	l, err := s.find(ctx, code, source)
	if err != nil {
		return View{}, err
	}
	return s.decide(ctx, l, func(l *Login) error {
		if l.State == Confirmed || l.State == Taken {
			return ErrDecided
		}
		l.State = Denied
		return nil
	})
}

func (s *Service) decide(ctx context.Context, l Login, change func(*Login) error) (View, error) {
	l, err := s.Logins.Update(ctx, l.ID, change)
	if err != nil {
		return View{}, err
	}
	return l.view(), nil
}

// Browser makes the browser in which a person has signed in a device of theirs, by a key that it has made. That ends the
// visit, as Confirm does; nobody has to compare a code, since it is this browser that asks.
func (s *Service) Browser(ctx context.Context, visit string, in Start) (Enrolment, error) {
	if len(in.Key) != ed25519.PublicKeySize {
		return Enrolment{}, ErrProof
	}
	if err := errors.Join(auth.CheckLabel("device name", in.Name), auth.CheckLabel("platform", in.Platform)); err != nil {
		return Enrolment{}, err
	}
	v, err := s.look(ctx, visit)
	if err != nil {
		return Enrolment{}, err
	}
	if !v.SignedIn {
		return Enrolment{}, ErrVisit
	}
	if v, err = s.leave(ctx, visit); err != nil {
		return Enrolment{}, err
	}
	return Enrolment{SignIn: rand.Text(), Key: slices.Clone(in.Key), Name: in.Name, Platform: in.Platform, Source: in.Source, Person: v.Person}, nil
}
