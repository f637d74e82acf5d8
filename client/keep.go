package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"sallyport/frame"
)

// A keeper holds one flow up: it notices when the way to the appliance dies, and moves the flow to another connection.
//
//	watch → lost, or about to be → rejoin, again and again → watch …
//	                             → the grace is over, or the appliance refuses: the flow ends
type keeper struct {
	stream *frame.Stream
	grace  time.Duration
	tell   func(string)

	// rejoin moves the flow, which needs that since lost, to another connection than the one that it is on; to one over
	// HTTPS if that is WhyBulk.
	rejoin func(ctx context.Context, lost time.Time, why frame.Why) error

	// better says that there is a better way than the one that the flow is on; may be nil.
	better func() bool

	bulk   *bulk       // nil: what the flow moves is no reason to move it
	onQUIC func() bool // says whether the flow is; needed with bulk

	// where is the address that this computer would use to reach the appliance; another than before is another network.
	where func() netip.Addr

	// notBefore is when a better way may be tried again, after one was refused.
	notBefore time.Time

	// wall tells the time by the wall, which goes on while the computer sleeps; default time.Now.
	wall func() time.Time
}

const (
	// A flow with bytes under way that hears nothing for silentFor asks, and when nothing comes in answerIn either, the
	// way is dying; one that has nothing to say asks every idleProbe. A way with a long delay gets more time.
	silentFor = 400 * time.Millisecond
	answerIn  = 400 * time.Millisecond
	idleProbe = 10 * time.Second
	longRTT   = 4           // times the RTT, but no more than
	tooLong   = time.Second // or twice the RTT: an outage may have been measured with it

	// After a sleep, or in another network, the way is probably dead.
	suspectIn = 350 * time.Millisecond
	sleptFor  = 2 * time.Second

	tickBusy = 100 * time.Millisecond
	tickIdle = 500 * time.Millisecond

	tellAfter   = 3 * time.Second // that a flow is without a connection
	goneFor     = 2 * time.Second // without an answer, after which the word of a new connection counts
	betterPause = 5 * time.Second // after a better way was none

	rejoinFor = 20 * time.Second // before it is asked again whether that makes sense
)

// run returns when the flow has ended, or ctx does.
func (k *keeper) run(ctx context.Context) {
	if k.wall == nil {
		k.wall = time.Now
	}
	k.stream.Probe() // the delay of this way
	for {
		why, err := k.watch(ctx)
		switch {
		case err != nil:
			return
		case why == frame.WhyBulk:
			k.tryBulk(ctx)
		case !k.move(ctx, why):
			return
		}
		k.stream.Probe()
	}
}

// watch returns when the flow has lost its connection or should leave it, with the reason, or with an error when there is
// nothing more to watch.
func (k *keeper) watch(ctx context.Context) (frame.Why, error) {
	wall, where := k.wall().Round(0), k.where()
	suspect := false
	tick := tickIdle
	for {
		wait, cancel := context.WithTimeout(ctx, tick)
		_, err := k.stream.Detached(wait)
		cancel()
		switch {
		case err == nil:
			return frame.WhyLost, nil
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case !errors.Is(err, context.DeadlineExceeded):
			return 0, err
		}

		v := k.stream.Vitals()
		suspect = suspect && v.Unanswered > 0
		now := k.wall().Round(0)
		if now.Sub(wall)-tick > sleptFor {
			suspect = true
		}
		wall = now
		if here := k.where(); here != where {
			suspect, where = true, here
		}
		if suspect || v.Silent > idleProbe || v.Waiting && v.Silent > patience(silentFor, v.RTT) {
			k.stream.Probe()
		}
		if v.Unanswered > 0 && v.Waiting {
			k.stream.Nudge()
		}
		limit := patience(answerIn, v.RTT)
		if suspect {
			limit = patience(suspectIn, v.RTT)
		}
		if v.Unanswered > limit && v.Silent >= v.Unanswered {
			return frame.WhyLost, nil
		}
		if k.bulk != nil {
			if why, ok := k.bulk.look(time.Now(), v.Acked+v.Taken, k.onQUIC(), v.RTT); ok {
				return why, nil
			}
		}
		if !k.bulk.holds() && time.Now().After(k.notBefore) && k.better != nil && k.better() {
			return frame.WhyBetter, nil
		}
		if tick = tickIdle; suspect || v.Waiting || v.Unanswered > 0 {
			tick = tickBusy
		}
	}
}

// patience is least, or longer on a long way.
func patience(least, rtt time.Duration) time.Duration {
	return max(least, min(longRTT*rtt, max(tooLong, 2*rtt)))
}

// tryBulk moves the flow to HTTPS, if that can be had at once. Nobody watches the flow meanwhile.
func (k *keeper) tryBulk(ctx context.Context) {
	ctx, cancel := k.whileLives(ctx)
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, tryBulkIn)
	defer stop()
	k.bulk.tried(k.rejoin(ctx, time.Now(), frame.WhyBulk) == nil)
}

// move gives the flow another connection; false if it has ended instead.
func (k *keeper) move(ctx context.Context, why frame.Why) bool {
	ctx, cancel := k.whileLives(ctx)
	defer cancel()
	lost := time.Now()
	told := k.tellLate()
	defer told()
	known := false // that it is lost
	for try := 0; ; try++ {
		if why == frame.WhyLost && !known {
			known = true
			k.bulk.lost(lost)
		}
		round, cancelRound := context.WithTimeout(ctx, rejoinFor)
		err := k.rejoin(round, lost, why)
		cancelRound()
		v := k.stream.Vitals()
		switch {
		case err == nil:
			if told() {
				k.tell(fmt.Sprintf("connected again after %v", time.Since(lost).Round(time.Second)))
			}
			return true
		case v.End != nil || ctx.Err() != nil:
			return false
		case v.Lost == nil && v.Unanswered == 0:
			// The way has come back to life, or there is no better one: if the flow is over, it says so itself.
			k.notBefore = time.Now().Add(max(betterPause, retryAfter(err)))
			if told() {
				k.tell(fmt.Sprintf("connected again after %v", time.Since(lost).Round(time.Second)))
			}
			return true
		case hopeless(err) && (v.Lost != nil || v.Unanswered > goneFor):
			k.stream.GiveUp(err)
			return false
		case v.Lost != nil && v.Detached > k.grace:
			k.stream.GiveUp(frame.Refuse("E_RESUME_EXPIRED", fmt.Sprintf("the connection was gone for %v, and a flow is kept for %v",
				v.Detached.Round(time.Second), k.grace), "connect again"))
			return false
		}
		if v.Lost != nil {
			why = frame.WhyLost
		}
		if !k.pause(ctx, try, time.Since(lost), err) {
			return false
		}
	}
}

// whileLives is a context that ends with ctx or with the flow, whichever is first.
func (k *keeper) whileLives(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-k.stream.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// tellLate tells the person that the flow waits for a connection, unless stop is called before that is worth a line. stop
// says whether the person was told; it may be called again.
func (k *keeper) tellLate() (stop func() bool) {
	var mu sync.Mutex
	told, stopped := false, false
	after := tellAfter
	if v := k.stream.Vitals(); v.Lost == nil { // it has waited for an answer already
		after -= 2 * (silentFor + answerIn)
	}
	timer := time.AfterFunc(after, func() {
		mu.Lock()
		defer mu.Unlock()
		if v := k.stream.Vitals(); !stopped && v.End == nil && (v.Lost != nil || v.Silent > after) {
			k.tell("connection lost, resuming…")
			told = true
		}
	})
	return func() bool {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		stopped = true
		return told
	}
}

// pause waits before the next attempt: shortly at first, and as long as the appliance says if it has.
func (k *keeper) pause(ctx context.Context, try int, since time.Duration, err error) bool {
	wait := min(50*time.Millisecond<<min(try, 4), 800*time.Millisecond)
	switch {
	case since > 10*time.Minute:
		wait = 10 * time.Second
	case since > time.Minute:
		wait = 5 * time.Second
	}
	wait = wait/2 + rand.N(wait/2)
	if r, ok := frame.ReasonOf(err); ok {
		wait = max(wait, r.RetryAfter())
	}
	select {
	case <-time.After(wait):
		return true
	case <-ctx.Done():
		return false
	}
}

// hopeless says that the appliance itself will not have the flow back. What a network says that is in between, such as
// one that wants a sign-in of its own, is no reason to give up.
func hopeless(err error) bool {
	var refusal *frame.StreamError
	if errors.As(err, &refusal) && refusal.Remote {
		switch refusal.Code {
		case "E_BUSY", frame.Draining:
			return false
		}
		return true
	}
	var session *frame.SessionError
	return errors.As(err, &session) && session.Remote && (session.Code.Exit() == 10 || session.Code == frame.VersionSkew)
}
