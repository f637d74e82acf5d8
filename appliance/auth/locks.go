package auth

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// A LockKind is what a lock bars.
type LockKind string

// The kinds of locks.
const (
	LockUser   LockKind = "user"   // signs in and connects nowhere
	LockDevice LockKind = "device" // the same, for one of a person's devices
	LockTarget LockKind = "target" // nobody connects to it
)

// A Lock bars a person, a device or a target, whatever the rules say.
type Lock struct {
	Kind    LockKind
	Name    string
	By      string // who has made it
	Why     string // for those whom it stops; may be empty
	Created time.Time
	Until   time.Time // zero: until it is taken off
}

// A LockStore keeps locks.
type LockStore interface {
	Locks(context.Context) ([]Lock, error)
	PutLock(context.Context, Lock) error                // in the place of another of the same kind and name
	DeleteLock(context.Context, LockKind, string) error // one that is not there is no error
}

// Locks are the locks of an appliance. Who asks never waits for the store.
type Locks struct {
	store LockStore
	clock func() time.Time
	made  func(Lock)

	change sync.Mutex // one at a time

	mu     sync.RWMutex
	all    map[lockKey]Lock
	unkept map[lockKey]bool // those that the store has not taken yet
}

type lockKey struct {
	kind LockKind
	name string
}

// OpenLocks reads the locks of a store. made is told of each that is put on from then on. The clock is time.Now outside
// tests.
func OpenLocks(ctx context.Context, store LockStore, clock func() time.Time, made func(Lock)) (*Locks, error) {
	l := &Locks{store: store, clock: clock, made: made, all: map[lockKey]Lock{}, unkept: map[lockKey]bool{}}
	return l, l.Reload(ctx)
}

// Reload reads what others may have changed in the store, and gives the store what it has not taken yet.
func (l *Locks) Reload(ctx context.Context) error {
	l.change.Lock()
	defer l.change.Unlock()
	for key := range l.unkept {
		if l.store.PutLock(ctx, l.all[key]) == nil {
			delete(l.unkept, key)
		}
	}
	list, err := l.store.Locks(ctx)
	if err != nil {
		return fmt.Errorf("read the locks: %w", err)
	}
	now := l.clock()
	all := map[lockKey]Lock{}
	for _, one := range list {
		all[lockKey{one.Kind, one.Name}] = one
	}
	l.mu.Lock()
	before := l.all
	for key := range l.unkept {
		all[key] = before[key]
	}
	l.all = all
	l.mu.Unlock()
	for key, one := range all {
		if was, known := before[key]; one.holds(now) && !(known && was.holds(now)) {
			l.made(one)
		}
	}
	return nil
}

// Lock puts a lock on, at once: also where the store refuses, and the error then says that it is not kept yet.
func (l *Locks) Lock(ctx context.Context, one Lock) error {
	if err := one.check(l.clock()); err != nil {
		return err
	}
	one.Created = l.clock()
	key := lockKey{one.Kind, one.Name}
	l.mu.Lock()
	l.all[key] = one
	l.mu.Unlock()
	l.made(one) // what it bars does not wait for the store
	l.change.Lock()
	defer l.change.Unlock()
	err := l.store.PutLock(context.WithoutCancel(ctx), one)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[key] = one // a Reload may have come between
	if delete(l.unkept, key); err != nil {
		l.unkept[key] = true
		return notKept(fmt.Sprintf("%s %s is locked", one.Kind, one.Name), err)
	}
	return nil
}

func (one Lock) check(now time.Time) error {
	if !one.holds(now) {
		return &Error{ErrName.Code, "the lock would end before it begins", "give a time to come, or none"}
	}
	switch one.Kind {
	case LockUser:
		return cmp.Or(CheckUser(one.Name), CheckLabel("reason", one.Why))
	case LockDevice, LockTarget:
		return cmp.Or(CheckLabel("name", one.Name), CheckLabel("reason", one.Why))
	}
	return &Error{ErrName.Code, fmt.Sprintf("%.32q cannot be locked", string(one.Kind)), "user, device or target can"}
}

// Unlock takes a lock off, once the store has.
func (l *Locks) Unlock(ctx context.Context, kind LockKind, name string) error {
	l.change.Lock()
	defer l.change.Unlock()
	if l.find(kind, name) == nil {
		return &Error{"E_LOCK_UNKNOWN", fmt.Sprintf("%s %.64q is not locked", kind, name), "sallyport admin locks lists what is"}
	}
	if err := l.store.DeleteLock(context.WithoutCancel(ctx), kind, name); err != nil {
		return fmt.Errorf("%s %s stays locked: %w", kind, name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, lockKey{kind, name})
	delete(l.unkept, lockKey{kind, name})
	return nil
}

// List returns the locks that hold now, by kind and name.
func (l *Locks) List() []Lock {
	l.mu.RLock()
	defer l.mu.RUnlock()
	list := []Lock{}
	for _, one := range l.all {
		if one.holds(l.clock()) {
			list = append(list, one)
		}
	}
	slices.SortFunc(list, func(a, b Lock) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return list
}

// Check returns why a person with a device may not connect to a target, or nil. An empty name is not asked about.
func (l *Locks) Check(user, device, target string) error {
	for _, key := range []lockKey{{LockUser, user}, {LockDevice, device}, {LockTarget, target}} {
		if one := l.find(key.kind, key.name); one != nil {
			return one.Refusal()
		}
	}
	return nil
}

// find is the lock of that name, if it holds.
func (l *Locks) find(kind LockKind, name string) *Lock {
	l.mu.RLock()
	defer l.mu.RUnlock()
	one, ok := l.all[lockKey{kind, name}]
	if !ok || !one.holds(l.clock()) {
		return nil
	}
	return &one
}

func (one Lock) holds(now time.Time) bool { return one.Until.IsZero() || now.Before(one.Until) }

// Refusal is what those are told whom the lock stops.
func (one Lock) Refusal() error {
	no := &Error{ErrLocked.Code, map[LockKind]string{LockUser: "you are locked out", LockDevice: "this device is locked out",
		LockTarget: fmt.Sprintf("%.64s is locked", one.Name)}[one.Kind], "ask an administrator"}
	if one.Why != "" {
		no.Sentence += ": " + one.Why
	}
	if !one.Until.IsZero() {
		no.Hint = "it ends at " + one.Until.UTC().Format("2006-01-02 15:04 MST") + "; " + no.Hint
	}
	return no
}
