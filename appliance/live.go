package appliance

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sallyport/frame"
)

// live is the flows that are dialling or open. Its zero value is empty.
type live struct {
	mu       sync.Mutex
	flows    map[*flow]struct{}
	byID     map[[16]byte]*flow
	byUser   map[string]int
	waiting  map[*flow]time.Time // those without a connection, and since when
	graves   map[[16]byte]grave
	gravesOf map[string]int // by user
	order    [][16]byte     // of graves, the oldest first
	failures failures
	apis     map[string]int // api flows, by user
	draining bool
}

// maxAPI is how many api flows a person may have: one for each command that runs, and some.
const maxAPI = 32

// addAPI counts an api flow in. While the appliance drains they go on: people may want to see why.
func (l *live) addAPI(user string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.apis == nil {
		l.apis = map[string]int{}
	}
	if l.apis[user] >= maxAPI {
		return frame.Refuse("E_LIMIT", fmt.Sprintf("%d commands ask the appliance at once, which is the limit", maxAPI), "wait until some have ended")
	}
	l.apis[user]++
	return nil
}

func (l *live) removeAPI(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.apis[user]--; l.apis[user] == 0 {
		delete(l.apis, user)
	}
}

// add counts f in, or says why there may be no more.
func (l *live) add(f *flow, limits Limits) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Whoever has too many flows may rather want this one than the one that waits for them longest: it may be of a
	// program that was killed.
	if !l.draining && l.byUser[f.peer.User] >= limits.FlowsPerUser {
		if waits := l.longestWaiting(f.peer.User); waits != nil {
			l.forget(waits)
			waits.end(frame.Refuse("E_LIMIT", "another flow has taken the place of this one, which had no connection", "connect again"))
		}
	}
	switch n := l.byUser[f.peer.User]; {
	case l.draining:
		return frame.Refuse(frame.Draining, "the appliance is stopping and opens no new flows", "try again in a moment")
	case n >= limits.FlowsPerUser:
		return frame.Refuse("E_LIMIT", fmt.Sprintf("you have %d flows open, which is the limit", n), "close one, or ask for a higher limit")
	case len(l.flows) >= limits.Flows:
		return &frame.StreamError{Reason: frame.Reason{Code: "E_BUSY", Sentence: "the appliance is full", Hint: "try again later", Retry: 5000}}
	}
	if l.flows == nil {
		l.flows, l.byUser, l.byID = map[*flow]struct{}{}, map[string]int{}, map[[16]byte]*flow{}
	}
	l.flows[f] = struct{}{}
	l.byID[f.id] = f
	l.byUser[f.peer.User]++
	return nil
}

func (l *live) remove(f *flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget(f)
}

// forget is remove. The caller holds mu.
func (l *live) forget(f *flow) {
	if _, ok := l.flows[f]; !ok {
		return
	}
	l.bury(f)
	delete(l.flows, f)
	delete(l.byID, f.id)
	delete(l.waiting, f)
	if l.byUser[f.peer.User]--; l.byUser[f.peer.User] == 0 {
		delete(l.byUser, f.peer.User)
	}
}

// each calls do for every flow that is live now, without holding the lock.
func (l *live) each(do func(*flow)) {
	l.mu.Lock()
	flows := make([]*flow, 0, len(l.flows))
	for f := range l.flows {
		flows = append(flows, f)
	}
	l.mu.Unlock()
	for _, f := range flows {
		do(f)
	}
}

// Drain tells everybody that the appliance is about to stop, opens no new flows, and returns when all flows have ended.
// What is still there when grace is over ends with E_DRAINING.
func (g *Gateway) Drain(ctx context.Context, grace time.Duration) {
	g.live.mu.Lock()
	g.live.draining = true
	g.live.mu.Unlock()
	g.live.each(func(f *flow) {
		f.tell(frame.Drain{Left: grace.Milliseconds(), Text: fmt.Sprintf("the appliance stops in %v; finish or reconnect later", grace)})
	})
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	defer g.Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for g.live.count() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *live) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.flows)
}
