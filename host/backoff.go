package host

import "time"

const (
	quickDeath  = 10 * time.Second // a worker that lived less died at once
	patience    = 4                // quick deaths in a row that are answered without delay
	backoffMin  = time.Second
	backoffMax  = 30 * time.Second
	backoffGrow = 2
)

// A backoff says how long to wait before the worker is started again.
type backoff struct {
	quick int // deaths in a row
	delay time.Duration
}

// next takes how long the dead worker has lived.
func (b *backoff) next(lived time.Duration) time.Duration {
	if lived >= quickDeath {
		*b = backoff{}
		return 0
	}
	if b.quick++; b.quick <= patience {
		return 0
	}
	b.delay = min(max(b.delay*backoffGrow, backoffMin), backoffMax)
	return b.delay
}
