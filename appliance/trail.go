package appliance

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"sync"
	"time"

	"sallyport/appliance/audit"
	"sallyport/frame"
	"sallyport/relay"
)

// Audit is where what happens is written down.
type Audit interface {
	// Write returns nil when the event is kept whatever becomes of this process.
	Write(audit.Event) error
	// Read yields the events that a filter wants, in their order.
	Read(audit.Filter) iter.Seq2[audit.Event, error]
}

// errUnwritten refuses what may not happen without being written down.
var errUnwritten = frame.Refuse("E_AUDIT", "the appliance cannot write its audit log and opens nothing without",
	"an administrator must look at its disk; its log says more")

// demand writes an event of something that must not happen without.
func (g *Gateway) demand(e audit.Event) error {
	if err := g.record(e); err != nil {
		return errUnwritten
	}
	return nil
}

// record writes an event of something that has happened already, or has to. What is not written is in the log.
func (g *Gateway) record(e audit.Event) error {
	err := g.Audit.Write(e)
	if err != nil {
		g.Log.Error("an event is not in the audit log", "event", e.Kind, "user", e.User, "target", e.Target, "flow", e.Flow, "by", e.By, "code", e.Code, "cause", err)
	}
	return err
}

// event is one that tells of a flow.
func (f *flow) event(kind string) audit.Event {
	now := f.latest()
	e := audit.Event{Kind: kind, Session: f.sessionID(), Flow: hex.EncodeToString(f.id[:6]), User: f.peer.User, Device: f.peer.Device,
		Source: now.Remote.String(), Transport: now.Transport, Client: now.Software, Target: frame.Clip(cmp.Or(f.grant.Target, f.open.Target), 255), VNet: f.grant.VNet,
		Protocol: frame.Clip(cmp.Or(f.grant.Protocol, f.open.Protocol), 16), Port: cmp.Or(f.grant.Port, f.open.Port)}
	e.Policies = f.grant.Policies
	if d := f.decided.Load(); d != nil {
		e.Policies = d.policies
	}
	if addr := f.addr.Load(); addr != nil {
		e.Address = addr.String()
	}
	return e
}

// openEvent tells that the flow is open, and by which program the appliance speaks to its target, if by one.
func (f *flow) openEvent() audit.Event {
	e := f.event(audit.FlowOpen)
	if f.open.Program != "" {
		e.Detail = map[string]string{"program": f.open.Program}
	}
	return e
}

// sessionID is the session's id in hex; empty for a question that no session comes of.
func (f *flow) sessionID() string {
	if f.session == ([16]byte{}) {
		return ""
	}
	return hex.EncodeToString(f.session[:])
}

// refusal is the event that there will be no flow.
func (f *flow) refusal(why frame.Reason) audit.Event {
	e := f.event(audit.DecisionRefused)
	e.Decision, e.Code, e.Why = "deny", string(why.Code), why.Sentence
	if why.Rule != "" {
		e.Policies = []string{why.Rule}
	}
	return e
}

// recordEnd writes, once, that a flow has ended, or will not begin although it was allowed.
func (f *flow) recordEnd(r relay.Result, why frame.Reason) {
	if !f.ended.CompareAndSwap(false, true) {
		return
	}
	e := f.event(audit.FlowEnd)
	e.Up, e.Down, e.Duration, e.Code, e.Why = r.Up, r.Down, time.Since(f.begun).Milliseconds(), string(why.Code), why.Sentence
	f.gateway.record(e)
}

// ofCaller is an event of what somebody asks the appliance itself.
func ofCaller(kind string, p frame.Peer) audit.Event {
	return audit.Event{Kind: kind, User: p.User, Device: p.Device, Source: p.Remote.String(), Transport: p.Transport, Client: p.Software}
}

// A person comes in with each connection, of which there is one for each flow over HTTPS. That is one event for as long
// as nothing changes, at least one in so long.
const sameComing = 10 * time.Minute

// maxComings bounds what is remembered of who has come in.
const maxComings = 20_000

// comings are who has come in lately. Its zero value is nobody.
type comings struct {
	mu   sync.Mutex
	last map[coming]time.Time
}

type coming struct {
	device, transport string
	source            netip.Addr
}

// isNew says whether a device comes in as it has not come in lately, and is written.
func (c *comings) isNew(key coming, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Sub(c.last[key]) >= sameComing
}

// written notes that it is.
func (c *comings) written(key coming, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil || len(c.last) >= maxComings {
		c.last = map[coming]time.Time{}
	}
	c.last[key] = now
}

// cameIn writes that a device has signed in. While nothing can be written people come in all the same, so that
// administrators can see to it; what they do there is written, or refused.
func (g *Gateway) cameIn(p frame.Peer) {
	key, now := coming{p.Device, p.Transport, p.Remote.Addr()}, time.Now()
	if g.comings.isNew(key, now) && g.recordOf(p.User, ofCaller(audit.SignInOK, p)) == nil {
		g.comings.written(key, now)
	}
}

// What a person can bring about again and again, at no cost of theirs, is written as often as this; how many were not is
// in the next that is. All strangers together are one.
const eventsEvery, eventsAtOnce = time.Second / 10, 200

// recordOf writes an event that a person can bring about as often as they like, unless they do.
func (g *Gateway) recordOf(user string, e audit.Event) error {
	before, write := g.events.say(user, eventsEvery, eventsAtOnce)
	if !write {
		return nil
	}
	if before > 0 {
		e.Detail = maps.Clone(e.Detail)
		if e.Detail == nil {
			e.Detail = map[string]string{}
		}
		e.Detail["unwritten_before"] = fmt.Sprint(before)
	}
	return g.record(e)
}

// turnedAway writes that somebody was not let in.
func (g *Gateway) turnedAway(p frame.Peer, device string, why frame.Reason) {
	e := ofCaller(audit.SignInRefused, p)
	e.Device, e.Code, e.Why = device, string(why.Code), why.Sentence
	g.recordOf("", e)
}
