package appliance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"sallyport/appliance/audit"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// A flow whose connection is lost is detached: its target stays connected, held by back-pressure, until the client
// resumes it on another connection or the grace is over.
//
//	carried → connection lost → detached → resume → carried …
//	                                     → grace over, E_RESUME_EXPIRED

// errNoFlow is the answer to whoever cannot prove that a flow is theirs, and to whoever asks for one that never was.
var errNoFlow = frame.Refuse(frame.ResumeUnknown, "the appliance does not know this flow any more; it may have been restarted", "connect again")

// errTooMany is the answer to a device that has failed too often lately.
var errTooMany = &frame.StreamError{Reason: frame.Reason{Code: "E_BUSY", Sentence: "this device has failed too often to prove that a flow is its own",
	Hint: "wait a moment", Retry: 1000}}

// errStopping ends flows when the appliance does.
var errStopping = frame.Refuse(frame.Draining, "the appliance is stopping", "connect again in a moment")

// detached is how long a flow has been without a connection. Its zero value is a flow that has one.
type detached struct {
	mu    sync.Mutex
	since time.Time   // zero: it is not
	clock *time.Timer // runs expire; nil before the first time

	resumed time.Time // when it had a new one
	gap     time.Duration
	why     frame.Why
}

// grace is how long the flow may be without a connection: as its rule says, but no longer than the appliance allows. One
// that measures ends with its connection.
func (f *flow) grace() time.Duration {
	if f.grant.Protocol == policy.Bench {
		return 0 // what is measured is one connection
	}
	grace := f.gateway.Limits.withDefaults().Grace
	if f.grant.Grace > 0 {
		grace = min(grace, f.grant.Grace)
	}
	return grace
}

// keep lets the flow outlive its connection, and returns for how long.
func (f *flow) keep() time.Duration {
	grace := f.grace()
	bond := f.bond
	if f.bond = nil; grace == 0 || bond == nil {
		return 0
	}
	if err := f.incoming.Keep(bond, f.id[:], f.session[:]); err != nil {
		f.log(slog.LevelError, "the flow will end with its connection", "why", err)
		return 0
	}
	f.kept = true
	return grace
}

// rest lets go of what a flow that has ended does not need to answer those who come back for it.
func (f *flow) rest() {
	f.incoming, f.conn, f.expiry = nil, nil, nil
	f.relay.Store(nil)
	d := &f.detached
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.clock != nil {
		d.clock.Stop()
	}
}

// uncarried is called when a carrier of the flow is gone. The flow may live on.
func (f *flow) uncarried() {
	d := &f.detached
	d.mu.Lock()
	defer d.mu.Unlock()
	v := f.stream.Load().Vitals()
	if v.Lost == nil || v.End != nil {
		return // it has another, or has ended meanwhile
	}
	if !f.gateway.live.detach(f, f.gateway.Limits.withDefaults().Detached) {
		f.end(frame.Refuse(frame.Lost, "the connection to the appliance was lost, and too many flows wait for theirs", "connect again"))
		return
	}
	f.gateway.Metrics.waiting(f.gateway.live.waitingNow())
	if d.since = time.Now().Add(-v.Detached); d.clock == nil {
		d.clock = time.AfterFunc(f.graceLeft(v), f.expire)
	} else {
		d.clock.Reset(f.graceLeft(v))
	}
	f.log(slog.LevelInfo, "flow detached", "why", v.Lost)
	e := f.event(audit.FlowDetach)
	e.Why = v.Lost.Error()
	f.gateway.recordOf(f.peer.User, e)
}

// errUnthanked ends a flow that is over but for the client's last acknowledgement.
var errUnthanked = errors.New("the client did not come back to acknowledge the flow's end")

// lastGrace is that of a flow of which only the client's last acknowledgement is missing.
const lastGrace = time.Minute

// graceLeft is how long a flow may still be without a connection.
func (f *flow) graceLeft(v frame.Vitals) time.Duration {
	grace := f.grace()
	if v.Ending {
		grace = min(grace, lastGrace)
	}
	return grace - v.Detached
}

// expire ends a flow that nobody has come back for.
func (f *flow) expire() {
	v := f.stream.Load().Vitals()
	left := f.graceLeft(v)
	d := &f.detached
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case v.Lost == nil || v.End != nil:
	case left > 0:
		d.clock.Reset(left)
	case v.Ending:
		f.end(errUnthanked)
	default:
		f.end(frame.Refuse("E_RESUME_EXPIRED", fmt.Sprintf("the connection was gone for %v, longer than a flow is kept for",
			v.Detached.Round(time.Second)), "connect again"))
	}
}

// resume serves a carrier whose client wants to go on with a flow, and says whether the flow has it now.
func (g *Gateway) resume(ctx context.Context, in *frame.Incoming, p frame.Peer) (attached bool) {
	if !g.live.mayTry(p.Device) {
		g.refuseResume(in, p, errTooMany)
		return false
	}
	f, stream := g.live.find([16]byte(in.Resume.Flow))
	if f == nil {
		frame.Mistrust(in, p.Bond)
		g.refuseResume(in, p, errNoFlow)
		return false
	}
	result, err := stream.Attach(in, p.Bond, func() error { return f.mayResume(p) })
	switch result {
	case frame.Attached:
		f.attached(p, in.Resume.Why)
		in.Watch(ctx, f.uncarried)
		return true
	case frame.Answered: // it had missed that the flow has ended
	case frame.LostRace:
		in.Supersede()
	case frame.Denied:
		f.end(err)
		g.refuseResume(in, p, err)
	case frame.Over:
		g.refuseResume(in, p, &frame.StreamError{Reason: endReason(f, err)})
	case frame.Forked:
		f.log(slog.LevelWarn, "the key of a flow is in two places", "from", p.Remote.Addr(), "by", p.Transport)
		g.live.failed(p.Device)
		g.refuseResume(in, p, errNoFlow)
	default:
		g.live.failed(p.Device)
		g.refuseResume(in, p, errNoFlow)
	}
	return false
}

func (g *Gateway) refuseResume(in *frame.Incoming, p frame.Peer, why error) {
	reason := reasonOf(why)
	g.Metrics.resumed(p.Transport, string(reason.Code))
	g.Log.Info("resume refused", append(ofPeer(p), "cause", string(reason.Code))...)
	in.Refuse(&frame.StreamError{Reason: reason})
}

// mayResume asks again what was asked when the flow began. It does not block.
func (f *flow) mayResume(p frame.Peer) error {
	if ends := context.Cause(f.life); ends != nil {
		return ends // and does not know yet
	}
	if err := f.barred(p); err != nil {
		return reasonError(err)
	}
	if err := f.still(f.gateway.policy.Load(), &p, time.Now()); err != nil {
		return changed("the rules have changed", err)
	}
	return nil
}

// attached notes that the flow has a connection again.
func (f *flow) attached(p frame.Peer, why frame.Why) {
	p.Bond = nil
	f.where.Store(&p)
	d := &f.detached
	d.mu.Lock()
	f.gateway.live.attach(f)
	var gap time.Duration
	if !d.since.IsZero() {
		gap = time.Since(d.since)
	}
	d.resumed, d.gap, d.why = time.Now(), gap, why
	if d.since = (time.Time{}); d.clock != nil {
		d.clock.Stop()
	}
	d.mu.Unlock()
	f.gateway.Metrics.resumed(p.Transport, "ok")
	f.gateway.Metrics.waiting(f.gateway.live.waitingNow())
	f.recordAttach(why, gap)
	f.log(slog.LevelInfo, "flow resumed", "why", why, "gap", gap.Round(time.Millisecond), "attached", f.stream.Load().Vitals().Attached)
}

// recordAttach writes that a flow has come back, or has moved while it had a connection.
func (f *flow) recordAttach(why frame.Why, gap time.Duration) {
	e := f.event(audit.FlowAttach)
	if gap == 0 {
		e.Kind = audit.FlowMove
	}
	e.Why, e.Duration = why.String(), gap.Milliseconds()
	f.gateway.recordOf(f.peer.User, e)
}

func (f *flow) lastResumed() (when time.Time, gap time.Duration, why frame.Why) {
	f.detached.mu.Lock()
	defer f.detached.mu.Unlock()
	return f.detached.resumed, f.detached.gap, f.detached.why
}

// Who fails to prove that a flow is theirs may try again so often: nobody who has the key fails at all.
const failuresPerSecond, failuresAtOnce = 10, 20

// failures are of devices that sent proofs which are not good.
type failures struct {
	by roll[rate.Limiter]
}

func (x *failures) note(device string) {
	x.by.of(device, func() *rate.Limiter { return rate.NewLimiter(failuresPerSecond, failuresAtOnce) }).Allow()
}

// tooMany says whether a device has to wait.
func (x *failures) tooMany(device string) bool {
	l := x.by[device]
	return l != nil && l.Tokens() < 1
}

// A grave answers those who come back for a flow that has ended: with its reason, or with what they missed.
type grave struct {
	flow  *flow
	until time.Time
}

// Graves are kept for so long, and so many.
const (
	graveFor       = 2 * time.Minute
	maxGraves      = 4096
	maxGravesOfOne = 512 // of one person
)

// bury keeps a flow that has ended. The caller holds mu.
func (l *live) bury(f *flow) {
	if !f.kept || l.gravesOf[f.peer.User] >= maxGravesOfOne {
		return
	}
	now := time.Now()
	for len(l.order) > 0 && (len(l.order) >= maxGraves || l.graves[l.order[0]].until.Before(now)) {
		oldest := l.graves[l.order[0]].flow.peer.User
		if l.gravesOf[oldest]--; l.gravesOf[oldest] == 0 {
			delete(l.gravesOf, oldest)
		}
		delete(l.graves, l.order[0])
		l.order = l.order[1:]
	}
	if l.graves == nil {
		l.graves, l.gravesOf = map[[16]byte]grave{}, map[string]int{}
	}
	l.gravesOf[f.peer.User]++
	l.graves[f.id] = grave{f, now.Add(graveFor)}
	l.order = append(l.order, f.id)
}

// find is the flow of an id, live or ended lately, once it is open.
func (l *live) find(id [16]byte) (*flow, *frame.Stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.byID[id]
	if f == nil {
		f = l.graves[id].flow
	}
	if f == nil || f.stream.Load() == nil {
		return nil, nil
	}
	return f, f.stream.Load()
}

// detach counts f among the flows without a connection, or says that there are too many.
func (l *live) detach(f *flow, most int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.flows[f]; !ok {
		return true // it ends already
	}
	if len(l.waiting) >= most {
		return false
	}
	if l.waiting == nil {
		l.waiting = map[*flow]time.Time{}
	}
	l.waiting[f] = time.Now()
	return true
}

func (l *live) attach(f *flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, f)
}

// longestWaiting is the flow of a person that has been without a connection for longest. The caller holds mu.
func (l *live) longestWaiting(user string) (oldest *flow) {
	for f, since := range l.waiting {
		if f.peer.User == user && (oldest == nil || since.Before(l.waiting[oldest])) {
			oldest = f
		}
	}
	return oldest
}

func (l *live) waitingNow() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting)
}

func (l *live) failed(device string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures.note(device)
}

func (l *live) mayTry(device string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.failures.tooMany(device)
}
