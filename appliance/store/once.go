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
		_, err := c.exec("INSERT INTO once ("+onceColumns+") VALUES ($1, $2, $3, $4)", o.Kind, data(o.Hash), data(o.Data), micros(o.Expires))
		return err
	})
}

const onceColumns = "kind, hash, sealed, expires"

func scanOneTime(row scanner) (o OneTime, err error) {
	err = row.Scan(&o.Kind, &o.Hash, &o.Data, stamp{&o.Expires})
	return o, err
}

// Look returns a value without taking it. ErrNotFound means that there is none, or none any more.
func (s *Store) Look(ctx context.Context, kind string, hash []byte, now time.Time) (OneTime, error) {
	return one(ctx, s, "look for the "+kind, scanOneTime, "SELECT "+onceColumns+" FROM once WHERE kind = $1 AND hash = $2 AND expires > $3",
		kind, hash, micros(now))
}

// Exchange puts o's data in the place of what it was; the value expires when it would have. ErrConflict means that it is not
// any more what it was.
func (s *Store) Exchange(ctx context.Context, o OneTime, was []byte, now time.Time) error {
	return s.change(ctx, "change the "+o.Kind, func(c *change) error {
		return c.must(ErrConflict, "UPDATE once SET sealed = $1 WHERE kind = $2 AND hash = $3 AND expires > $4 AND sealed IS NOT DISTINCT FROM $5",
			data(o.Data), o.Kind, o.Hash, micros(now), data(was))
	})
}

// Take removes a value and returns it, once. ErrNotFound means that there is none, or none any more.
func (s *Store) Take(ctx context.Context, kind string, hash []byte, now time.Time) (o OneTime, err error) {
	err = s.change(ctx, "take the "+kind, func(c *change) error {
		o, err = scanOneTime(c.row("DELETE FROM once WHERE kind = $1 AND hash = $2 AND expires > $3 RETURNING "+onceColumns, kind, hash, micros(now)))
		return err
	})
	if err != nil {
		return OneTime{}, err
	}
	return o, nil
}
