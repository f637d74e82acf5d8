package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestWatchTellsWhatChanges(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, again func() *Store) {
		ctx := t.Context()
		here, there := watch(t, s), watch(t, again())
		both := func(want Change) {
			t.Helper()
			here.want(t, want)
			there.want(t, want)
		}
		both(Change{})
		must(t, s.PutDevice(ctx, device(1, "ann")))
		both(Change{OfDevice, "dev-1"})
		_, err := s.RevokeDevice(ctx, "dev-1", start)
		must(t, err)
		both(Change{OfDevice, "dev-1"})
		_, err = s.RevokeDevice(ctx, "dev-1", start) // changes nothing
		must(t, err)
		is(t, "no change", s.DisableAccount(ctx, "none", start), ErrNotFound)
		must(t, s.SetLock(ctx, Lock{Kind: LockUser, Name: "ann", Created: start}))
		both(Change{OfLock, "user:ann"})
		must(t, s.AddAccount(ctx, Account{Name: "ann", Source: Local, Subject: "ann"}))
		both(Change{OfAccount, "ann"})
		must(t, s.AddSignIn(ctx, SignIn{ID: "s1", Account: "ann", Expires: start.Add(time.Hour)}))
		both(Change{OfSignIn, "s1"})
		must(t, s.EndSignInsOf(ctx, "ann", start))
		both(Change{OfSignIn, "s1"})
		must(t, s.Ask(ctx, Approval{ID: "a1", Asked: start, Expires: start.Add(time.Hour)}))
		both(Change{OfApproval, "a1"})
		_, err = s.Decide(ctx, "a1", Denied, "bob", "", start, start)
		must(t, err)
		both(Change{OfApproval, "a1"})
		_, err = s.AddAccess(ctx, 0, Access{})
		must(t, err)
		both(Change{OfAccess, ""})
		must(t, s.AddKey(ctx, Key{Name: "audit", Serial: 1, Public: []byte("p")}))
		both(Change{OfKey, "audit"})
		_, err = s.SeeHostKey(ctx, HostKey{Target: "db-1", Key: []byte("k")})
		must(t, err)
		both(Change{OfHostKey, "db-1"})
		must(t, s.Import(ctx, nil, nil))
		both(Change{})
	})
}

// TestNoChangeIsLost has many write at once, on two appliances, and wants every change to be told once, to each watcher.
func TestNoChangeIsLost(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, again func() *Store) {
		other := again()
		watchers := []told{watch(t, s), watch(t, other)}
		for _, w := range watchers {
			w.want(t, Change{})
		}
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				on := []*Store{s, other}[i%2]
				for j := range 20 {
					if err := on.SetLock(t.Context(), Lock{Kind: LockUser, Name: fmt.Sprintf("%d-%d", i, j), Created: start}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for _, w := range watchers {
			seen := map[Change]int{}
			for range 200 {
				select {
				case c := <-w.changes:
					seen[c]++
				case <-time.After(soon):
					t.Fatalf("only %d changes are told", len(seen))
				}
			}
			if len(seen) != 200 {
				t.Errorf("%d different changes are told of 200", len(seen))
			}
		}
	})
}

func TestAChangeThatIsNotTakenIsToldAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		tries := make(chan Change, 10)
		failing := 2
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			s.Watch(ctx, func(c Change) error {
				tries <- c
				if c.Subject != "" && failing > 0 {
					failing--
					return errors.New("not now")
				}
				return nil
			})
		})
		defer wg.Wait()
		defer cancel()
		w := told{tries}
		w.want(t, Change{})
		must(t, s.SetLock(t.Context(), Lock{Kind: LockUser, Name: "ann", Created: start}))
		for range 3 {
			w.want(t, Change{OfLock, "user:ann"})
		}
		must(t, s.RemoveLock(t.Context(), LockUser, "ann"))
		w.want(t, Change{OfLock, "user:ann"})
	})
}

// TestWhoFallsBehindReadsAll writes more changes than are kept, behind the back of a watcher that is busy.
func TestWhoFallsBehindReadsAll(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		entered, release := make(chan Change), make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			s.Watch(ctx, func(c Change) error {
				entered <- c
				<-release
				return nil
			})
		})
		defer wg.Wait()
		defer cancel()
		if c := <-entered; c != (Change{}) {
			t.Errorf("at first: %+v", c)
		}
		// As if there had been keptChanges and more.
		if _, err := s.write.ExecContext(t.Context(), "INSERT INTO changes (id, subject, name) VALUES ($1, $2, 'x')", keptChanges+10, OfLock); err != nil {
			t.Fatal(err)
		}
		release <- struct{}{}
		if c := <-entered; c != (Change{}) {
			t.Errorf("far behind: %+v", c)
		}
		must(t, s.SetLock(t.Context(), Lock{Kind: LockUser, Name: "ann"}))
		release <- struct{}{}
		if c := <-entered; c != (Change{OfLock, "user:ann"}) {
			t.Errorf("and then: %+v", c)
		}
		close(release)
	})
}

func TestChangesAreBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		if _, err := s.write.ExecContext(t.Context(), "INSERT INTO changes (id, subject, name) VALUES (1, 'x', 'x'), (2, 'x', 'x'), ($1, 'x', 'x')", keptChanges+1); err != nil {
			t.Fatal(err)
		}
		must(t, s.SetLock(t.Context(), Lock{Kind: LockUser, Name: "ann"}))
		if first, last, err := s.span(t.Context()); first != keptChanges+1 || last != keptChanges+2 || err != nil {
			t.Errorf("%d to %d are kept, %v", first, last, err)
		}
	})
}
