package store

import (
	"context"
	"errors"
	"time"
)

// A Failure counts the attempts that failed under a key, such as "account:ann" or "source:192.0.2.7".
type Failure struct {
	Key   string
	Count int
	Last  time.Time
	Until time.Time // who asks under the key is barred till then
}

const failureColumns = "name, number, latest, barred_till"

func scanFailure(row scanner) (f Failure, err error) {
	err = row.Scan(&f.Key, &f.Count, stamp{&f.Last}, stamp{&f.Until})
	return f, err
}

// Fail counts one more failure, beginning anew where the last one is longer ago than forget, and bars the key for as long
// as penalty says of the new count.
func (s *Store) Fail(ctx context.Context, key string, now time.Time, forget time.Duration, penalty func(count int) time.Duration) (f Failure, err error) {
	err = s.change(ctx, "count the failure", func(c *change) error {
		f, err = scanFailure(c.row("INSERT INTO failures ("+failureColumns+") VALUES ($1, 1, $2, 0)"+
			" ON CONFLICT (name) DO UPDATE SET number = CASE WHEN failures.latest < $3 THEN 1 ELSE failures.number + 1 END, latest = excluded.latest"+
			" RETURNING "+failureColumns, key, micros(now), micros(now.Add(-forget))))
		if err != nil {
			return err
		}
		if until := now.Add(penalty(f.Count)); until.After(now) && until.After(f.Until) {
			f.Until = time.UnixMicro(micros(until)).UTC()
			_, err = c.exec("UPDATE failures SET barred_till = $1 WHERE name = $2", micros(until), key)
		}
		return err
	})
	return f, err
}

// Failure returns what is counted under a key; nothing is no error.
func (s *Store) Failure(ctx context.Context, key string) (Failure, error) {
	f, err := one(ctx, s, "read the failures", scanFailure, "SELECT "+failureColumns+" FROM failures WHERE name = $1", key)
	if errors.Is(err, ErrNotFound) {
		return Failure{Key: key}, nil
	}
	return f, err
}

// ClearFailures forgets what is counted under a key.
func (s *Store) ClearFailures(ctx context.Context, key string) error {
	return s.change(ctx, "clear the failures", func(c *change) error {
		_, err := c.exec("DELETE FROM failures WHERE name = $1", key)
		return err
	})
}
