package store

import (
	"context"
	"time"
)

// A HostKey is a key by which a target is known.
type HostKey struct {
	Target    string
	Algorithm string
	Key       []byte
	Seen      time.Time // first
	Confirmed time.Time // zero before an administrator has confirmed it
	By        string    // who has
}

const hostKeyColumns = "target, algorithm, public, seen, confirmed, confirmed_by"

func scanHostKey(row scanner) (k HostKey, err error) {
	err = row.Scan(&k.Target, &k.Algorithm, &k.Key, stamp{&k.Seen}, stamp{&k.Confirmed}, &k.By)
	return k, err
}

// HostKeys returns the keys of a target or, where that is empty, of all.
func (s *Store) HostKeys(ctx context.Context, target string) ([]HostKey, error) {
	return list(ctx, s, "read the host keys", scanHostKey,
		"SELECT "+hostKeyColumns+" FROM hostkeys WHERE $1 = '' OR target = $1 ORDER BY target, algorithm", target)
}

// SeeHostKey pins the key of a target that none of its algorithm is known of, and returns the one that is pinned, which
// may be another.
func (s *Store) SeeHostKey(ctx context.Context, k HostKey) (pinned HostKey, err error) {
	err = s.change(ctx, "pin the host key of "+k.Target, func(c *change) error {
		n, err := c.exec("INSERT INTO hostkeys ("+hostKeyColumns+") VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (target, algorithm) DO NOTHING",
			k.Target, k.Algorithm, data(k.Key), micros(k.Seen), micros(k.Confirmed), k.By)
		if err != nil {
			return err
		}
		if n > 0 {
			c.note(OfHostKey, k.Target)
		}
		pinned, err = scanHostKey(c.row("SELECT "+hostKeyColumns+" FROM hostkeys WHERE target = $1 AND algorithm = $2", k.Target, k.Algorithm))
		return err
	})
	return pinned, err
}

// PutHostKey pins a key in place of the one of its target and algorithm.
func (s *Store) PutHostKey(ctx context.Context, k HostKey) error {
	return s.change(ctx, "pin the host key of "+k.Target, func(c *change) error {
		c.note(OfHostKey, k.Target)
		_, err := c.exec("INSERT INTO hostkeys ("+hostKeyColumns+") VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (target, algorithm) DO UPDATE SET"+
			" public = excluded.public, seen = excluded.seen, confirmed = excluded.confirmed, confirmed_by = excluded.confirmed_by",
			k.Target, k.Algorithm, data(k.Key), micros(k.Seen), micros(k.Confirmed), k.By)
		return err
	})
}

// ForgetHostKeys forgets the keys of a target, so that the next ones are pinned.
func (s *Store) ForgetHostKeys(ctx context.Context, target string) error {
	return s.change(ctx, "forget the host keys of "+target, func(c *change) error {
		c.note(OfHostKey, target)
		return c.must(ErrNotFound, "DELETE FROM hostkeys WHERE target = $1", target)
	})
}
