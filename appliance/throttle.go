package appliance

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"sallyport/relay"
)

// A budget is the bytes that may move now.
type budget struct{ *rate.Limiter }

// budgetPiece is what is waited for: a large slab's worth, so that a fast flow is not cut into small frames.
const budgetPiece = 64 << 10

// newBudget allows so many bytes a second, and after a pause those of 20 ms at once, which the runtime's timers may be
// late by.
func newBudget(bytes int64) budget {
	return budget{rate.NewLimiter(rate.Limit(bytes), int(min(max(budgetPiece, bytes/50), 1<<30)))}
}

// full says that nothing was moved lately.
func (b budget) full() bool { return b.Tokens() >= float64(b.Burst()) }

// take is how many of n bytes may move now.
func (b budget) take(n int) int {
	if n = min(n, budgetPiece); b.AllowN(time.Now(), n) {
		return n
	}
	return 0
}

// wait returns when so many bytes may move.
func (b budget) wait(ctx context.Context, bytes float64) error {
	for {
		missing := bytes - b.Tokens()
		if missing <= 0 {
			return nil
		}
		select {
		case <-time.After(1 + time.Duration(missing/float64(b.Limit())*float64(time.Second))): // rounded up
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// spend takes n bytes that have moved already; what was not there is owed.
func (b budget) spend(n int) {
	for now := time.Now(); n > 0; n -= budgetPiece {
		b.ReserveN(now, min(n, budgetPiece))
	}
}

// A throttled conn moves so many bytes a second in each direction. Each side may take what is there at once, up to a
// slab, and waits until it is paid: so a keystroke is never held up by its own size.
type throttled struct {
	relay.Conn
	up, down budget
}

// throttle limits a conn to so many bytes a second in each direction; 0 leaves it as it is.
func throttle(c relay.Conn, bytes int64) relay.Conn {
	if bytes == 0 {
		return c
	}
	return &throttled{c, newBudget(bytes), newBudget(bytes)}
}

// Take implements relay.Taker.
func (t *throttled) Take(p []byte) (int, error) {
	if t.up.Tokens() < 1 {
		return 0, nil
	}
	n, err := t.Conn.Take(p)
	t.up.spend(n)
	return n, err
}

// WaitWritable implements relay.Taker.
func (t *throttled) WaitWritable(ctx context.Context) error {
	if err := t.up.wait(ctx, 1); err != nil {
		return err
	}
	return t.Conn.WaitWritable(ctx)
}

// WaitReadable implements relay.Source.
func (t *throttled) WaitReadable(ctx context.Context, later func()) (bool, error) {
	if err := t.down.wait(ctx, 1); err != nil {
		return true, err
	}
	return t.Conn.WaitReadable(ctx, later)
}

// Read implements relay.Source.
func (t *throttled) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.down.spend(n)
	return n, err
}
