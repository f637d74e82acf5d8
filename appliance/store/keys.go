package store

import (
	"context"
	"time"
)

// A Key is a key pair of the fleet's own: of its certificate authorities, its identity, its audit trail. A key and its
// successor are good side by side until the old one retires.
type Key struct {
	Name    string // what it is for
	Serial  int64  // 1, 2, 3 …
	Created time.Time
	Retires time.Time // zero: not yet known
	Public  []byte
	Sealed  []byte // the private half, sealed by the caller
}

// AddKey adds a key. Its serial is one more than that of the latest key of its name that the caller knows of: ErrConflict
// means that another appliance has made one meanwhile, which is the one to take.
func (s *Store) AddKey(ctx context.Context, k Key) error {
	return s.change(ctx, "keep the key "+k.Name, func(c *change) error {
		c.note(OfKey, k.Name)
		_, err := c.exec("INSERT INTO keypairs (name, serial, created, retires, public, sealed) VALUES ($1, $2, $3, $4, $5, $6)",
			k.Name, k.Serial, micros(k.Created), micros(k.Retires), data(k.Public), data(k.Sealed))
		return err
	})
}

// Keys returns the keys of a name that have not retired at a time, the latest first.
func (s *Store) Keys(ctx context.Context, name string, now time.Time) ([]Key, error) {
	scan := func(row scanner) (k Key, err error) {
		err = row.Scan(&k.Name, &k.Serial, stamp{&k.Created}, stamp{&k.Retires}, &k.Public, &k.Sealed)
		return k, err
	}
	return list(ctx, s, "read the keys "+name, scan, "SELECT name, serial, created, retires, public, sealed FROM keypairs"+
		" WHERE name = $1 AND (retires = 0 OR retires > $2) ORDER BY serial DESC", name, micros(now))
}

// RetireKey says when a key retires.
func (s *Store) RetireKey(ctx context.Context, name string, serial int64, at time.Time) error {
	return s.change(ctx, "retire the key "+name, func(c *change) error {
		c.note(OfKey, name)
		return c.must(ErrNotFound, "UPDATE keypairs SET retires = $1 WHERE name = $2 AND serial = $3", micros(at), name, serial)
	})
}
