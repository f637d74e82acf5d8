package store

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestLocks(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		forever := Lock{Kind: LockUser, Name: "ann", By: "root", Why: "lost laptop", Created: start}
		hour := Lock{Kind: LockTarget, Name: "db-1", By: "bob", Why: "upgrade", Created: start, Until: start.Add(time.Hour)}
		must(t, s.SetLock(ctx, forever))
		must(t, s.SetLock(ctx, Lock{Kind: LockTarget, Name: "db-1", By: "eve", Created: start}))
		must(t, s.SetLock(ctx, hour))
		for at, want := range map[time.Time][]Lock{start: {hour, forever}, hour.Until: {forever}} {
			if got, err := s.Locks(ctx, at); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("at %v: %+v, %v", at, got, err)
			}
		}
		must(t, s.RemoveLock(ctx, LockUser, "ann"))
		is(t, "remove nothing", s.RemoveLock(ctx, LockUser, "ann"), ErrNotFound)
	})
}

func TestApprovals(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, again func() *Store) {
		ctx := t.Context()
		a := Approval{ID: "a1", User: "ann", Device: "dev-1", Target: "db-1", Protocol: "ssh", Groups: []string{"ops-leads"}, Asked: start, Expires: start.Add(time.Hour)}
		must(t, s.Ask(ctx, a))
		if got, err := s.Approval(ctx, "a1"); err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%+v, %v", got, err)
		}
		stores := []*Store{s, again()}
		var won atomic.Int64
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				by := fmt.Sprintf("lead-%d", i)
				got, err := stores[i%2].Decide(ctx, "a1", Approved, by, "fine", start.Add(time.Minute), start.Add(2*time.Hour))
				switch {
				case err == nil && got.By == by && got.Decision == Approved && got.Expires.Equal(start.Add(2*time.Hour)):
					won.Add(1)
				case !errors.Is(err, ErrConflict):
					t.Errorf("%+v, %v", got, err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("decided %d times", won.Load())
		}
		must(t, s.Ask(ctx, Approval{ID: "a2", User: "ann", Asked: start.Add(time.Minute), Expires: start.Add(time.Hour)}))
		_, err := s.Decide(ctx, "a2", Denied, "bob", "", start.Add(time.Hour), start)
		is(t, "expired", err, ErrConflict)
		_, err = s.Decide(ctx, "none", Denied, "bob", "", start, start)
		is(t, "none", err, ErrNotFound)
		if got, err := s.Approvals(ctx, start, 10); err != nil || len(got) != 2 || got[0].ID != "a2" {
			t.Errorf("%+v, %v", got, err)
		}
		if got, err := s.Approvals(ctx, start.Add(time.Second), 10); err != nil || len(got) != 1 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestAccessVersionsFollowEachOther(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, again func() *Store) {
		ctx := t.Context()
		if got, err := s.ActiveAccess(ctx); err != nil || !reflect.DeepEqual(got, Access{}) {
			t.Errorf("before the first: %+v, %v", got, err)
		}
		stores := []*Store{s, again()}
		for version := range int64(3) {
			var won atomic.Int64
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					n, err := stores[i%2].AddAccess(ctx, version, Access{Created: start, By: fmt.Sprint(i), Comment: "why", Files: []byte("files"), Hash: []byte("hash")})
					switch {
					case err == nil && n == version+1:
						won.Add(1)
					case !errors.Is(err, ErrConflict):
						t.Errorf("%d, %v", n, err)
					}
				})
			}
			wg.Wait()
			if won.Load() != 1 {
				t.Fatalf("%d put a version after %d", won.Load(), version)
			}
		}
		_, err := s.AddAccess(ctx, 7, Access{})
		is(t, "after one that is not there", err, ErrConflict)
		got, err := s.ActiveAccess(ctx)
		if err != nil || got.Version != 3 || string(got.Files) != "files" || string(got.Hash) != "hash" || !got.Created.Equal(start) || got.Comment != "why" {
			t.Errorf("%+v, %v", got, err)
		}
		if same, err := s.AccessVersion(ctx, 3); err != nil || !reflect.DeepEqual(same, got) {
			t.Errorf("%+v, %v", same, err)
		}
		_, err = s.AccessVersion(ctx, 4)
		is(t, "read none", err, ErrNotFound)
		if list, err := s.AccessVersions(ctx, 2); err != nil || len(list) != 2 || list[0].Version != 3 || list[1].Files != nil {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

func TestKeys(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		first := Key{Name: "ssh-ca", Serial: 1, Created: start, Public: []byte("p1"), Sealed: []byte("s1")}
		second := Key{Name: "ssh-ca", Serial: 2, Created: start.Add(time.Hour), Public: []byte("p2"), Sealed: []byte("s2")}
		must(t, s.AddKey(ctx, first))
		is(t, "the first, by another appliance", s.AddKey(ctx, Key{Name: "ssh-ca", Serial: 1, Public: []byte("p3")}), ErrConflict)
		must(t, s.AddKey(ctx, second))
		must(t, s.AddKey(ctx, Key{Name: "audit", Serial: 1, Public: []byte("p")}))
		must(t, s.RetireKey(ctx, "ssh-ca", 1, start.Add(2*time.Hour)))
		first.Retires = start.Add(2 * time.Hour)
		for at, want := range map[time.Time][]Key{start: {second, first}, first.Retires: {second}} {
			if got, err := s.Keys(ctx, "ssh-ca", at); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("at %v: %+v, %v", at, got, err)
			}
		}
		is(t, "retire none", s.RetireKey(ctx, "ssh-ca", 3, start), ErrNotFound)
	})
}

func TestHostKeys(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		k := HostKey{Target: "db-1", Algorithm: "ssh-ed25519", Key: []byte("k1"), Seen: start}
		other := HostKey{Target: "db-1", Algorithm: "ssh-ed25519", Key: []byte("k2"), Seen: start.Add(time.Hour)}
		for _, seen := range []HostKey{k, other} { // the second is not taken
			if got, err := s.SeeHostKey(ctx, seen); err != nil || !reflect.DeepEqual(got, k) {
				t.Errorf("%+v, %v", got, err)
			}
		}
		k.Key, k.Confirmed, k.By = []byte("k3"), start, "root"
		must(t, s.PutHostKey(ctx, k))
		_, err := s.SeeHostKey(ctx, HostKey{Target: "db-2", Algorithm: "ssh-rsa", Key: []byte("r"), Seen: start})
		must(t, err)
		if got, err := s.HostKeys(ctx, "db-1"); err != nil || !reflect.DeepEqual(got, []HostKey{k}) {
			t.Errorf("%+v, %v", got, err)
		}
		if got, err := s.HostKeys(ctx, ""); err != nil || len(got) != 2 {
			t.Errorf("%+v, %v", got, err)
		}
		must(t, s.ForgetHostKeys(ctx, "db-1"))
		is(t, "forget nothing", s.ForgetHostKeys(ctx, "db-1"), ErrNotFound)
	})
}

func TestPrune(t *testing.T) {
	onBoth(t, func(t *testing.T, s *Store, _ func() *Store) {
		ctx := t.Context()
		must(t, s.Keep(ctx, OneTime{Kind: "k", Hash: []byte("h"), Expires: start.Add(time.Minute)}))
		must(t, s.SetLock(ctx, Lock{Kind: LockUser, Name: "ann", Created: start}))
		must(t, s.SetLock(ctx, Lock{Kind: LockUser, Name: "bob", Created: start, Until: start.Add(time.Minute)}))
		must(t, s.AddSignIn(ctx, SignIn{ID: "s", Created: start, Expires: start.Add(time.Minute)}))
		must(t, s.AddGuestLink(ctx, GuestLink{ID: "g", Hash: []byte("g"), Created: start, Expires: start.Add(time.Minute), Uses: 1}, 1))
		_, err := s.OpenGuestLink(ctx, []byte("g"), device(1, ""), "", start)
		must(t, err)
		must(t, s.Ask(ctx, Approval{ID: "a", Asked: start, Expires: start.Add(time.Minute)}))
		for after, want := range []struct {
			after time.Duration
			left  map[string]int
		}{
			{time.Second, map[string]int{"once": 1, "locks": 2, "signins": 1, "approvals": 1, "guest_links": 1, "guest_uses": 1}},
			{time.Hour, map[string]int{"once": 0, "locks": 1, "signins": 1, "approvals": 1}},
			{keptFor + time.Hour, map[string]int{"once": 0, "locks": 1, "signins": 0, "approvals": 0, "guest_links": 0, "guest_uses": 0}},
		} {
			must(t, s.Prune(ctx, start.Add(want.after)))
			for table, n := range want.left {
				var got int
				must(t, s.read.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+table).Scan(&got))
				if got != n {
					t.Errorf("%d: %d rows are left in %s, want %d", after, got, table, n)
				}
			}
		}
	})
}
