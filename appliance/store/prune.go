package store

import (
	"context"
	"time"
)

// keptFor is how long what is over is remembered, for those who ask what has become of it.
const keptFor = 30 * 24 * time.Hour

// Prune forgets what is over: values that nobody took, sign-ins and requests that ended long ago.
func (s *Store) Prune(ctx context.Context, now time.Time) error {
	at, long := micros(now), micros(now.Add(-keptFor))
	return s.change(ctx, "forget what is over", func(c *change) error {
		for _, old := range []struct {
			query string
			at    int64
		}{
			{"DELETE FROM once WHERE expires < $1", at},
			{"DELETE FROM locks WHERE ends > 0 AND ends < $1", at},
			{"DELETE FROM signins WHERE expires < $1 OR ended > 0 AND ended < $1", long},
			{"DELETE FROM guest_links WHERE expires < $1", long},
			{"DELETE FROM devices WHERE expires > 0 AND expires < $1 AND person LIKE 'guest:%'", long},
			{"DELETE FROM approvals WHERE expires < $1", long},
		} {
			if _, err := c.exec(old.query, old.at); err != nil {
				return err
			}
		}
		return nil
	})
}
