package main

import (
	"context"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/store"
)

// lockStore is the database as the locks want it.
type lockStore struct{ *store.Store }

// Locks implements auth.LockStore.
func (s lockStore) Locks(ctx context.Context) ([]auth.Lock, error) {
	all, err := s.Store.Locks(ctx, time.Now())
	locks := make([]auth.Lock, 0, len(all))
	for _, l := range all {
		locks = append(locks, auth.Lock{Kind: auth.LockKind(l.Kind), Name: l.Name, By: l.By, Why: l.Why, Created: l.Created, Until: l.Until})
	}
	return locks, deviceFault(err, nil)
}

// PutLock implements auth.LockStore.
func (s lockStore) PutLock(ctx context.Context, l auth.Lock) error {
	return deviceFault(s.SetLock(ctx, store.Lock{Kind: string(l.Kind), Name: l.Name, By: l.By, Why: l.Why, Created: l.Created, Until: l.Until}), nil)
}

// DeleteLock implements auth.LockStore.
func (s lockStore) DeleteLock(ctx context.Context, kind auth.LockKind, name string) error {
	return deviceFault(s.RemoveLock(ctx, string(kind), name), nil)
}

// keepLocks gives the database the locks that it has not taken, until ctx ends.
func (d *daemon) keepLocks(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := d.locks.Reload(ctx); err != nil && ctx.Err() == nil {
				d.log.Warn("the locks are not read", "cause", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

// followLocks takes up locks that others change in the database, until ctx ends.
func (d *daemon) followLocks(ctx context.Context) {
	err := d.store.Watch(ctx, func(c store.Change) error {
		if c.Subject != store.OfLock && c.Subject != "" {
			return nil
		}
		return d.locks.Reload(ctx)
	})
	if err != nil && ctx.Err() == nil {
		d.log.Error("locks of other appliances are not heard of any more", "cause", err)
	}
}
