package appliance

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"sallyport/frame"
)

// What one person may ask the API in a second, on all their devices together: more than pages and commands do, and after a
// pause many at once. Who asks faster is held up, and refused where that would take longer than longestPause.
const (
	asksPerSecond = 50
	asksAtOnce    = 500
	longestPause  = 2 * time.Second
)

var errTooFast = &frame.StreamError{Reason: frame.Reason{Code: "E_BUSY", Sentence: "you ask the appliance for more than it answers one person",
	Hint: "wait a moment; a program that asks in a loop should pause", Retry: longestPause.Milliseconds()}}

// paces remember how fast people ask. The zero value is nobody.
type paces struct {
	mu sync.Mutex
	by roll[rate.Limiter]
}

// wait returns once somebody may ask the next thing.
func (x *paces) wait(ctx context.Context, who string) error {
	turn := x.limit(who).Reserve()
	pause := turn.Delay()
	if pause == 0 {
		return nil
	}
	if pause > longestPause {
		turn.Cancel()
		return errTooFast
	}
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		turn.Cancel()
		return context.Cause(ctx)
	}
}

func (x *paces) limit(who string) *rate.Limiter {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.by.of(who, func() *rate.Limiter { return rate.NewLimiter(asksPerSecond, asksAtOnce) })
}
