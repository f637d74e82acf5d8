package auth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// ErrSignedOut is what a device is told whose sign-in is over.
var ErrSignedOut = &Error{"E_SIGNED_OUT", "your sign-in has ended", "run: sallyport login, with the address of the appliance"}

// A SignIn is a person's stay on a device, from sign-in to sign-out.
type SignIn struct {
	ID       string
	User     string
	Device   string
	Provider string   // who vouched for them: "local", or an identity provider's name
	Groups   []string // that the provider has named
	MFA      time.Time
	Began    time.Time
	Expires  time.Time
	Ended    time.Time // zero while it lasts
}

// A Standing is what a sign-in says of a person beside their name. A device that enrolled with a code has the zero one.
type Standing struct {
	SignIn  string
	Groups  []string
	MFA     time.Time // when they showed a second factor; zero if they did not
	Expires time.Time // of the sign-in; zero: it has no end
}

// SignInStore is what SignIns need of a database. A fleet shares one.
type SignInStore interface {
	// SignIns are those that last.
	SignIns(ctx context.Context) ([]SignIn, error)
	// SignIn is one by its id, also when it has ended; ErrSignedOut if there is none.
	SignIn(ctx context.Context, id string) (SignIn, error)
	EndSignIn(ctx context.Context, id string, at time.Time) error
	// Watch calls f with the id of each sign-in that has changed, or without one where any may have, until ctx ends.
	Watch(ctx context.Context, f func(id string) error) error
}

// SignIns are the sign-ins that last, in memory. Its methods may be called by many goroutines; Standing never waits for the
// database.
type SignIns struct {
	store   SignInStore
	clock   func() time.Time
	changed func(SignIn, error) // what is different about a sign-in, and nil, or that it has ended, and why
	stop    context.CancelFunc
	follow  sync.WaitGroup

	mu     sync.RWMutex
	byID   map[string]SignIn
	ending map[string]time.Time // what the database has not been told
}

// OpenSignIns reads the sign-ins of a database and follows what becomes of them, here and on other appliances. changed is
// called with each one that has ended, and the reason, and without a reason with each whose groups or second factor are
// others than before. The clock is time.Now outside tests.
func OpenSignIns(ctx context.Context, store SignInStore, clock func() time.Time, changed func(SignIn, error)) (*SignIns, error) {
	s := &SignIns{store: store, clock: clock, changed: changed, byID: map[string]SignIn{}, ending: map[string]time.Time{}}
	if err := s.readAll(ctx); err != nil {
		return nil, err
	}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.follow.Go(func() { store.Watch(ctx, func(id string) error { return s.takeUp(ctx, id) }) })
	s.follow.Go(func() { s.expire(ctx) })
	return s, nil
}

// Close stops following.
func (s *SignIns) Close() {
	s.stop()
	s.follow.Wait()
}

// Standing is what the sign-in of a device says, or ErrSignedOut. An id of no sign-in is that of a device that has none.
func (s *SignIns) Standing(id string) (Standing, error) {
	if id == "" {
		return Standing{}, nil
	}
	s.mu.RLock()
	n, known := s.byID[id]
	s.mu.RUnlock()
	if !known || !s.clock().Before(n.Expires) {
		return Standing{}, ErrSignedOut
	}
	return Standing{SignIn: id, Groups: n.Groups, MFA: n.MFA, Expires: n.Expires}, nil
}

// GroupsOf are the groups that providers have named of a person, in all of their sign-ins that last.
func (s *SignIns) GroupsOf(user string) []string {
	now := s.clock()
	var groups []string
	for _, n := range s.List() {
		if n.User == user && now.Before(n.Expires) {
			groups = append(groups, n.Groups...)
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups)
}

// List are the sign-ins that last, the oldest first.
func (s *SignIns) List() []SignIn {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]SignIn, 0, len(s.byID))
	for _, n := range s.byID {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b SignIn) int { return a.Began.Compare(b.Began) })
	return list
}

// Learn takes a sign-in in that somebody has just put into the database, before Watch tells of it.
func (s *SignIns) Learn(n SignIn) {
	s.mu.Lock()
	old, known := s.byID[n.ID]
	_, ending := s.ending[n.ID]
	over := !n.Ended.IsZero() || ending
	if over {
		delete(s.byID, n.ID)
	} else {
		s.byID[n.ID] = n
	}
	s.mu.Unlock()
	switch {
	case !known:
	case over:
		s.changed(old, ErrSignedOut)
	case !slices.Equal(old.Groups, n.Groups) || !old.MFA.Equal(n.MFA):
		s.changed(n, nil)
	}
}

// End ends a sign-in. It takes effect here also where the database does not answer.
func (s *SignIns) End(ctx context.Context, id string) error {
	now := s.clock()
	s.mu.RLock()
	n, known := s.byID[id]
	s.mu.RUnlock()
	if !known {
		return ErrSignedOut
	}
	n.Ended = now
	s.Learn(n)
	err := s.store.EndSignIn(ctx, id, now)
	if err != nil {
		s.mu.Lock()
		s.ending[id] = now
		s.mu.Unlock()
		return fmt.Errorf("the sign-in has ended on this appliance until its next start only; mend the database: %w", err)
	}
	return nil
}

func (s *SignIns) readAll(ctx context.Context) error {
	all, err := s.store.SignIns(ctx)
	if err != nil {
		return fmt.Errorf("read the sign-ins: %w", err)
	}
	lasting := map[string]bool{}
	for _, n := range all {
		lasting[n.ID] = true
		s.Learn(n)
	}
	for _, n := range s.List() {
		if !lasting[n.ID] {
			n.Ended = s.clock()
			s.Learn(n)
		}
	}
	return nil
}

func (s *SignIns) takeUp(ctx context.Context, id string) error {
	if id == "" {
		return s.readAll(ctx)
	}
	n, err := s.store.SignIn(ctx, id)
	if errors.Is(err, ErrSignedOut) {
		n, err = SignIn{ID: id, Ended: s.clock()}, nil
	}
	if err == nil {
		s.Learn(n)
	}
	return err
}

// tellLate ends in the database what has ended while that did not answer.
func (s *SignIns) tellLate(ctx context.Context) {
	s.mu.RLock()
	ending := maps.Clone(s.ending)
	s.mu.RUnlock()
	for id, at := range ending {
		if s.store.EndSignIn(ctx, id, at) != nil {
			return
		}
		s.mu.Lock()
		delete(s.ending, id)
		s.mu.Unlock()
	}
}

// expire ends what a sign-in carries when its time is over.
func (s *SignIns) expire(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.tellLate(ctx)
		for _, n := range s.List() {
			if now := s.clock(); !now.Before(n.Expires) {
				n.Ended = n.Expires
				s.Learn(n)
			}
		}
	}
}
