package store

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// probeEvery is how often Tend asks the database whether it answers, and probeTime how long that may take. Together they are
// how long it may be away without anybody knowing: a second and a half.
const (
	probeEvery = 500 * time.Millisecond
	probeTime  = time.Second
)

// health is what is known of whether the database answers.
type health struct {
	hurry chan struct{} // a call has not been answered: ask now

	mu       sync.Mutex
	down     error     // nil while it answers
	since    time.Time // when it went; zero while it answers
	answered time.Time // when a call was answered last
}

// Health says since when the database does not answer, and why; a nil error says that it does, or that nobody has asked yet.
func (s *Store) Health() (since time.Time, err error) {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	return s.health.since, s.health.down
}

// Tend keeps Health true until ctx ends, and logs when the database goes and when it comes back. While it is known to be away
// no call waits for it: each fails at once.
func (s *Store) Tend(ctx context.Context) {
	defer s.health.forget()
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		s.probe(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			continue
		case <-s.health.hurry:
		}
		select { // a server that refuses at once is not asked at once again
		case <-ctx.Done():
			return
		case <-time.After(probeEvery / 10):
		}
	}
}

// probe asks the database for nothing. What other calls are told meanwhile counts too: where one is answered, the probe has
// only waited in a queue.
func (s *Store) probe(ctx context.Context) {
	begin := time.Now()
	limited, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var one int
	err := s.read.QueryRowContext(limited, "SELECT 1").Scan(&one)
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && limited.Err() != nil:
		err = fmt.Errorf("%w within %v", ErrDown, probeTime)
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrDown, err)
	}
	h := &s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil && h.answered.After(begin) {
		return
	}
	switch was := h.down; {
	case err == nil && was != nil:
		s.cfg.Log.Info("the database answers again: new sessions are decided", "away", time.Since(h.since).Round(time.Millisecond))
		h.since = time.Time{}
	case err != nil && was == nil:
		s.cfg.Log.Warn("the database does not answer: existing sessions continue, new ones are paused", "cause", err)
		h.since = begin
	}
	h.down = err
}

// forget has each call ask for itself again, once nobody probes.
func (h *health) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down, h.since = nil, time.Time{}
}

// heard takes down how a call has ended. One that was not answered has the next probe come at once, and decides nothing by
// itself: a deadlock or a busy moment is no outage.
func (h *health) heard(answered, down bool) {
	switch {
	case answered:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.answered = time.Now()
	case down:
		poke(h.hurry)
	}
}
