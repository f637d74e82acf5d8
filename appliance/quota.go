package appliance

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// quotas remember how often somebody was written of lately, so that nobody floods a log. Each has their own; strangers,
// who are "", have one together: they cannot use up what others may say, nor the other way round. The zero value is nobody.
type quotas struct {
	mu sync.Mutex
	by roll[quota]
}

type quota struct {
	lines  *rate.Limiter
	unsaid int
}

// say asks for a line about somebody who has burst of them and then one in every, and tells how many were asked for in
// vain since the last one.
func (q *quotas) say(who string, every time.Duration, burst int) (unsaid int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	one := q.by.of(who, func() *quota { return &quota{lines: rate.NewLimiter(rate.Every(every), burst)} })
	if !one.lines.Allow() {
		one.unsaid++
		return 0, false
	}
	unsaid, one.unsaid = one.unsaid, 0
	return unsaid, true
}
