package auth

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// kept are locks in memory, or a disk that refuses.
type kept struct {
	all  map[lockKey]Lock
	fail error
}

func (k *kept) Locks(context.Context) (list []Lock, err error) {
	for _, l := range k.all {
		list = append(list, l)
	}
	return list, k.fail
}

func (k *kept) PutLock(_ context.Context, l Lock) error {
	if k.fail == nil {
		k.all[lockKey{l.Kind, l.Name}] = l
	}
	return k.fail
}

func (k *kept) DeleteLock(_ context.Context, kind LockKind, name string) error {
	if k.fail == nil {
		delete(k.all, lockKey{kind, name})
	}
	return k.fail
}

func TestLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &kept{all: map[lockKey]Lock{}}
		var told []string
		open := func() *Locks {
			l, err := OpenLocks(t.Context(), store, time.Now, func(l Lock) { told = append(told, string(l.Kind)+" "+l.Name) })
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		l := open()
		for _, one := range []Lock{{Kind: LockUser, Name: "ann", By: "eve", Why: "laptop lost"}, {Kind: LockDevice, Name: "dev-1", Until: time.Now().Add(time.Hour)}, {Kind: LockTarget, Name: "db-1"}} {
			if err := l.Lock(t.Context(), one); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(told, ", "); got != "user ann, device dev-1, target db-1" {
			t.Errorf("told of %s", got)
		}
		check := func(l *Locks, user, device, target, want string) {
			t.Helper()
			err := l.Check(user, device, target)
			if want == "" && err == nil {
				return
			}
			if !errors.Is(err, ErrLocked) || want == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %s, %s: %v, want %q", user, device, target, err, want)
			}
		}
		told = nil
		for _, l := range []*Locks{l, open()} { // as the next start finds it
			check(l, "ann", "dev-9", "web", "you are locked out: laptop lost")
			check(l, "bob", "dev-1", "web", "this device is locked out")
			check(l, "bob", "dev-9", "db-1", "db-1 is locked")
			check(l, "bob", "dev-9", "", "")
			check(l, "", "", "", "")
			if list := l.List(); len(list) != 3 || list[0].Name != "dev-1" || list[2].By != "eve" {
				t.Errorf("list: %+v", list)
			}
		}
		time.Sleep(time.Hour)
		check(l, "bob", "dev-1", "web", "")
		if err := l.Unlock(t.Context(), LockDevice, "dev-1"); err == nil {
			t.Error("a lock that has run out can be taken off")
		}
		if err := l.Unlock(t.Context(), LockUser, "ann"); err != nil {
			t.Error(err)
		}
		check(l, "ann", "dev-9", "web", "")

		// A store that refuses: a lock holds all the same, one that is taken off stays.
		store.fail = errors.New("disk full")
		if err := l.Lock(t.Context(), Lock{Kind: LockUser, Name: "bob"}); err == nil || !strings.Contains(err.Error(), "not kept yet") {
			t.Error(err)
		}
		check(l, "bob", "", "", "locked out")
		if err := l.Unlock(t.Context(), LockTarget, "db-1"); err == nil || !strings.Contains(err.Error(), "stays locked") {
			t.Error(err)
		}
		check(l, "", "", "db-1", "locked")
		if err := l.Reload(t.Context()); err == nil {
			t.Error("the locks were read of a store that refuses")
		}
		store.fail = nil
		if err := l.Reload(t.Context()); err != nil { // and the store gets what it had refused
			t.Error(err)
		}
		check(l, "bob", "", "", "locked out")
		check(open(), "bob", "", "", "locked out")

		// What another appliance of the fleet has changed.
		told = nil
		delete(store.all, lockKey{LockTarget, "db-1"})
		store.all[lockKey{LockUser, "carl"}] = Lock{Kind: LockUser, Name: "carl"}
		if err := l.Reload(t.Context()); err != nil || strings.Join(told, ", ") != "user carl" {
			t.Errorf("told of %q, %v", told, err)
		}
		check(l, "", "", "db-1", "")
		check(l, "carl", "", "", "locked out")
	})
}

func TestLockRefused(t *testing.T) {
	l, err := OpenLocks(t.Context(), &kept{all: map[lockKey]Lock{}}, time.Now, func(Lock) { t.Error("told of it") })
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []Lock{{Kind: "house", Name: "x"}, {Kind: LockUser, Name: "Ann"}, {Kind: LockDevice, Name: "a\nb"}, {Kind: LockTarget, Name: "x", Why: "\x1b[2J"}, {Kind: LockUser, Name: "x", Until: time.Now().Add(-time.Second)}} {
		if err := l.Lock(t.Context(), one); !errors.Is(err, ErrName) {
			t.Errorf("%+v: %v", one, err)
		}
	}
}
