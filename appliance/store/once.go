package store

import (
	"context"
	"time"
)

// A OneTime is a value that is kept for whoever comes back with what hashes to Hash: the state of a sign-in on its way to
// the provider and back, a passkey's challenge, a link.
type OneTime struct {
	Kind    string
	Hash    []byte
	Data    []byte
	Expires time.Time
}

// Keep keeps a value until it is taken or expires. ErrConflict means that the hash is known.
func (s *Store) Keep(ctx context.Context, o OneTime) error {
	return s.change(ctx, "keep the "+o.Kind, func(c *change) error {
		_, err := c.exec("INSERT INTO once (kind, hash, sealed, expires) VALUES ($1, $2, $3, $4)", o.Kind, data(o.Hash), data(o.Data), micros(o.Expires))
		return err
	})
}

// Take removes a value and returns it, once. ErrNotFound means that there is none, or none any more.
func (s *Store) Take(ctx context.Context, kind string, hash []byte, now time.Time) (o OneTime, err error) {
	err = s.change(ctx, "take the "+kind, func(c *change) error {
		return c.row("DELETE FROM once WHERE kind = $1 AND hash = $2 AND expires > $3 RETURNING kind, hash, sealed, expires", kind, hash, micros(now)).
			Scan(&o.Kind, &o.Hash, &o.Data, stamp{&o.Expires})
	})
	if err != nil {
		return OneTime{}, err
	}
	return o, nil
}
