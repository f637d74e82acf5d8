package client

import (
	"context"
	"math/rand/v2"
	"time"

	"sallyport/frame"
	"sallyport/transport"
)

const (
	// While the way to the appliance is dead new attempts begin again and again, beside those that still wait: so one is
	// under way soon after the way is back. Most are short, for they were lost on the way; some are long, for ways with a
	// long delay.
	redialFirst = 60 * time.Millisecond  // between attempts, at first
	redialThen  = 250 * time.Millisecond // from redialEager on
	redialSlow  = 5 * time.Second        // from redialFast on
	redialEager = 4 * time.Second
	redialFast  = time.Minute
	redialSoon  = 50 * time.Millisecond // after one that failed at once, and could not have noticed
	redialFor   = time.Second           // is a short one's patience
	redialLong  = 10 * time.Second      // is a long one's
	redialEach  = 8                     // every so manieth is long

	// How often a client that was driven from QUIC to HTTPS looks whether UDP gets through again.
	scoutEvery = 15 * time.Second
)

// reconnect returns a session other than dead, which was lost at a time, and tries for as long as ctx lives.
func (d *Direct) reconnect(ctx context.Context, dead *transport.Session, lost time.Time) (*transport.Session, error) {
	ctx, stop := d.whileOpen(ctx)
	defer stop()
	select {
	case d.lock <- struct{}{}:
		defer func() { <-d.lock }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if d.session != nil && d.session != dead && !closed(d.session.Done()) {
		return d.session, nil
	}
	d.drop()
	s, err := d.redial(ctx, lost)
	if err != nil {
		return nil, d.profile.Trust.explain(ctx, d.profile.Address, err)
	}
	d.setSession(s)
	if d.dial.Mode == transport.Auto || d.dial.Mode == "" {
		d.scout(s)
	}
	return s, nil
}

// aside returns a session over HTTPS for one flow, beside the one for all.
func (d *Direct) aside(ctx context.Context) (*transport.Session, error) {
	ctx, stop := d.whileOpen(ctx)
	defer stop()
	https := *d.dial
	https.Mode, https.Spares = transport.HTTPS, 0
	return https.Dial(ctx)
}

// redial dials again and again until one attempt succeeds, or the appliance itself refuses.
func (d *Direct) redial(ctx context.Context, lost time.Time) (*transport.Session, error) {
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		s   *transport.Session
		err error
	}
	results := make(chan result)
	running, begun := 0, 0
	defer func() {
		cancel()
		go func() { // those that lost the race
			for range running {
				if r := <-results; r.s != nil {
					r.s.Close()
				}
			}
		}()
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	var notBefore time.Time // as the appliance says
	for {
		select {
		case <-next.C:
			patience, pause := redialFor, redialFirst
			switch since := time.Since(lost); {
			case since > redialFast:
				patience, pause = redialLong, redialSlow
			case since > redialEager:
				pause = redialThen
			}
			if begun++; begun%redialEach == 0 {
				patience = redialLong
			}
			running++
			go func() {
				attempt, cancel := context.WithTimeout(ctx, patience)
				defer cancel()
				s, err := d.dial.Dial(attempt)
				results <- result{s, err}
			}()
			pause = pause/2 + rand.N(pause) // so that not all clients come at once
			next.Reset(max(pause, time.Until(notBefore)))
		case r := <-results:
			running--
			if r.err == nil || hopeless(r.err) {
				return r.s, r.err
			}
			if wait := retryAfter(r.err); wait > 0 {
				notBefore = time.Now().Add(wait)
				next.Reset(wait)
			} else if running == 0 && time.Since(lost) < redialEager {
				next.Reset(max(redialSoon, time.Until(notBefore)))
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func retryAfter(err error) time.Duration {
	r, _ := frame.ReasonOf(err)
	return r.RetryAfter()
}

// scout looks for a way back to QUIC for as long as flows are on a session that is not. The caller holds the lock.
func (d *Direct) scout(s *transport.Session) {
	if s.Transport == "quic" || !d.scouts.CompareAndSwap(false, true) {
		return
	}
	d.uses.Lock()
	defer d.uses.Unlock()
	if d.life.Err() != nil { // Close waits already
		return
	}
	d.keepers.Go(func() {
		defer d.scouts.Store(false)
		ticker := time.NewTicker(scoutEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-d.life.Done():
				return
			}
			if !d.busy() {
				continue // nobody would move
			}
			if done := d.tryQUIC(); done {
				return
			}
		}
	})
}

// busy says whether there are kept flows.
func (d *Direct) busy() bool {
	d.uses.Lock()
	defer d.uses.Unlock()
	return len(d.flows) > 0
}

// tryQUIC makes QUIC the way for new flows, and for those that keepers then move; true if that is done or of no use.
func (d *Direct) tryQUIC() (done bool) {
	ctx, cancel := context.WithTimeout(d.life, redialLong)
	defer cancel()
	quic := *d.dial
	quic.Mode = transport.QUIC
	s, err := quic.Dial(ctx)
	if err != nil {
		return false
	}
	select {
	case d.lock <- struct{}{}:
		defer func() { <-d.lock }()
	case <-d.life.Done():
		s.Close()
		return true
	}
	if d.session != nil && d.session.Transport == "quic" && !closed(d.session.Done()) {
		s.Close()
		return true
	}
	d.drop()
	d.setSession(s)
	return true
}
