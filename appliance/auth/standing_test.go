package auth

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// signInTable is a database of sign-ins in memory.
type signInTable struct {
	mu     sync.Mutex
	byID   map[string]SignIn
	broken error
	tell   chan string
}

func (t *signInTable) SignIns(context.Context) (list []SignIn, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range t.byID {
		if n.Ended.IsZero() {
			list = append(list, n)
		}
	}
	return list, t.broken
}

func (t *signInTable) SignIn(_ context.Context, id string) (SignIn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, known := t.byID[id]
	if !known {
		return n, ErrSignedOut
	}
	return n, t.broken
}

func (t *signInTable) EndSignIn(_ context.Context, id string, at time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken != nil {
		return t.broken
	}
	n := t.byID[id]
	n.Ended = at
	t.byID[id] = n
	return nil
}

func (t *signInTable) Watch(ctx context.Context, f func(string) error) error {
	for {
		select {
		case id := <-t.tell:
			f(id)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *signInTable) put(n SignIn) {
	t.mu.Lock()
	t.byID[n.ID] = n
	t.mu.Unlock()
	t.tell <- n.ID
}

func TestSignIns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := &signInTable{byID: map[string]SignIn{}, tell: make(chan string)}
		ann := SignIn{ID: "1", User: "ann", Groups: []string{"ops"}, MFA: time.Now(), Expires: time.Now().Add(time.Hour)}
		table.byID["1"] = ann
		var mu sync.Mutex
		var heard []string
		told := func() []string {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(heard)
		}
		s, err := OpenSignIns(t.Context(), table, time.Now, func(n SignIn, why error) {
			mu.Lock()
			defer mu.Unlock()
			word := "changed "
			if why != nil {
				word = "ended "
			}
			heard = append(heard, word+n.User)
		})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if st, err := s.Standing("1"); err != nil || !slices.Equal(st.Groups, []string{"ops"}) || st.MFA.IsZero() {
			t.Errorf("%+v, %v", st, err)
		}
		if st, err := s.Standing(""); err != nil || st.SignIn != "" {
			t.Errorf("without a sign-in: %+v, %v", st, err)
		}
		if _, err := s.Standing("2"); !errors.Is(err, ErrSignedOut) {
			t.Errorf("an unknown one: %v", err)
		}

		ann.Groups = nil
		table.put(ann)
		bob, carol := SignIn{ID: "2", User: "bob", Expires: ann.Expires}, SignIn{ID: "3", User: "carol", Expires: time.Now().Add(10 * time.Hour)}
		table.put(bob)
		table.put(carol)
		synctest.Wait()
		if !slices.Equal(told(), []string{"changed ann"}) || len(s.List()) != 3 {
			t.Errorf("told %q, %d last", told(), len(s.List()))
		}
		// By another appliance.
		bob.Ended = time.Now()
		table.put(bob)
		synctest.Wait()
		if _, err := s.Standing("2"); !errors.Is(err, ErrSignedOut) || told()[1] != "ended bob" {
			t.Errorf("%v, told %q", err, told())
		}
		// By its time.
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		if _, err := s.Standing("1"); !errors.Is(err, ErrSignedOut) || told()[2] != "ended ann" {
			t.Errorf("%v, told %q", err, told())
		}
		// Here, while the database is away.
		table.mu.Lock()
		table.broken = ErrControlDown
		table.mu.Unlock()
		if err := s.End(t.Context(), "3"); !errors.Is(err, ErrControlDown) {
			t.Error(err)
		}
		if _, err := s.Standing("3"); !errors.Is(err, ErrSignedOut) || told()[3] != "ended carol" {
			t.Errorf("%v, told %q", err, told())
		}
		if err := s.End(t.Context(), "3"); !errors.Is(err, ErrSignedOut) {
			t.Error(err)
		}
		table.mu.Lock()
		table.broken = nil
		table.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n, _ := table.SignIn(t.Context(), "3"); n.Ended.IsZero() {
			t.Error("the database was not told later")
		}
	})
}

// TestADeviceSignsInAndEnrols: a device acts by its latest sign-in, until it enrols with a code, which stands for itself.
func TestADeviceSignsInAndEnrols(t *testing.T) {
	store, clock := new(Memory), newClock()
	r, other := mustOpen(t, store, clock.time), mustOpen(t, store, clock.time)
	for _, signIn := range []string{"one", "two"} {
		d, err := r.Add(t.Context(), Device{User: "ann", Name: "laptop", Platform: "linux/amd64", Key: key(1), SignIn: signIn})
		if err != nil || r.SignInOf(d.ID) != signIn {
			t.Fatalf("%+v, %v, acts by %q", d, err, r.SignInOf(d.ID))
		}
	}
	if _, err := r.Add(t.Context(), Device{User: "bob", Name: "laptop", Platform: "linux/amd64", Key: key(1), SignIn: "three"}); !errors.Is(err, ErrDeviceTaken) {
		t.Errorf("another person's: %v", err)
	}
	if d := mustEnrol(t, other, "ann", 1); d.SignIn != "" || other.SignInOf(d.ID) != "" {
		t.Errorf("after a code it acts by %q", d.SignIn)
	}
	if err := other.Revoke(DeviceID(key(1))); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Add(t.Context(), Device{User: "ann", Name: "laptop", Platform: "linux/amd64", Key: key(1), SignIn: "four"}); !errors.Is(err, ErrRevoked) {
		t.Errorf("a revoked one: %v", err)
	}
}
