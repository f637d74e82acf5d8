package store

import (
	"context"
	"time"
)

// The kinds of what can be locked.
const (
	LockUser   = "user"
	LockDevice = "device"
	LockTarget = "target"
)

// A Lock keeps somebody or something out, whatever the policy says.
type Lock struct {
	Kind    string
	Name    string
	By      string
	Why     string
	Created time.Time
	Until   time.Time // zero: until it is removed
}

// SetLock sets a lock, in the place of one that there may be.
func (s *Store) SetLock(ctx context.Context, l Lock) error {
	return s.change(ctx, "lock "+l.Kind+" "+l.Name, func(c *change) error {
		c.note(OfLock, l.Kind+":"+l.Name)
		_, err := c.exec("INSERT INTO locks (kind, name, set_by, why, created, ends) VALUES ($1, $2, $3, $4, $5, $6)"+
			" ON CONFLICT (kind, name) DO UPDATE SET set_by = excluded.set_by, why = excluded.why, created = excluded.created, ends = excluded.ends",
			l.Kind, l.Name, l.By, l.Why, micros(l.Created), micros(l.Until))
		return err
	})
}

// RemoveLock removes a lock.
func (s *Store) RemoveLock(ctx context.Context, kind, name string) error {
	return s.change(ctx, "unlock "+kind+" "+name, func(c *change) error {
		c.note(OfLock, kind+":"+name)
		return c.must(ErrNotFound, "DELETE FROM locks WHERE kind = $1 AND name = $2", kind, name)
	})
}

// Locks returns the locks that hold at a time.
func (s *Store) Locks(ctx context.Context, now time.Time) ([]Lock, error) {
	scan := func(row scanner) (l Lock, err error) {
		err = row.Scan(&l.Kind, &l.Name, &l.By, &l.Why, stamp{&l.Created}, stamp{&l.Until})
		return l, err
	}
	return list(ctx, s, "read the locks", scan,
		"SELECT kind, name, set_by, why, created, ends FROM locks WHERE ends = 0 OR ends > $1 ORDER BY kind, name", micros(now))
}
