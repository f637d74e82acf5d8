// Package appliance is the gateway between people and targets. A transport brings it admitted clients; it decides,
// dials inside a VNet, relays and accounts.
//
//	g := &appliance.Gateway{Name: "bastion", Devices: registry, VNets: vnets, Log: log}
//	g.SetPolicy(p)
//	server := &transport.Server{Handler: g, …}
//
// The life of a flow is Gateway.Flow, from top to bottom:
//
//	accept → authorise → resolve → authorise → dial → open → relay → account
//
// # Cancellation
//
// A flow's context ends with its lifetime, its device, the grace that it may be detached for, and the appliance; the
// cause is told to the client and stands in the log. It outlives its transport connection: see resume.go.
package appliance

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/appliance/access"
	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/auth/token"
	"sallyport/appliance/policy"
	"sallyport/frame"
	"sallyport/relay"
)

// A VNet is what the gateway needs of the network its targets live in.
type VNet interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)

	// Choose picks the address to dial from those that a name has, or says why none of them may be dialled.
	Choose([]netip.Addr) (netip.Addr, error)
}

// Devices are those who may come in.
type Devices interface {
	Device(ed25519.PublicKey) (auth.Device, error)
	Enrol(auth.Enrolment) (auth.Device, error)
	NewCode(user string, ttl time.Duration, scope auth.Scope) (string, error)
	List() []auth.Device
	Revoke(id string) error
	// ScopeOf is what narrows a device, or why it may not go on. It does not wait for a database.
	ScopeOf(id string) (auth.Scope, error)
	Touch(id string, source netip.Addr, version string)
}

// Locks bar people, devices and targets by hand.
type Locks interface {
	// Check returns why a person with a device may not connect to a target, or nil. An empty name is not asked about.
	Check(user, device, target string) error
	Lock(context.Context, auth.Lock) error
	Unlock(context.Context, auth.LockKind, string) error
	List() []auth.Lock
}

// A Gateway serves admitted clients. Set its fields before the first of them comes.
type Gateway struct {
	Name      string // of the appliance, for people
	Banner    string // a line that people are told when they come in; may be empty
	VNets     map[string]VNet
	Devices   Devices
	People    People        // nil: nobody signs in, and all devices have enrolled with codes
	Tokens    *token.Signer // makes access tokens; nil likewise
	Locks     Locks
	Guests    *auth.Guests    // nil: there are no guest links
	URL       string          // of the appliance's pages; empty: it has none
	Approvals *auth.Approvals // nil: nobody approves anything, and what needs it is refused
	Access    Access          // nil: the access files are not in a database
	Accounts  Accounts
	Read      func(access.Files) (*access.Rules, error) // reads access files as those of this appliance
	SSHCA     CertificateAuthority                      // nil: no keys of devices are signed
	HostKeys  HostKeys                                  // nil: only the keys that the policy names count
	Audit     Audit
	AuditKey  ed25519.PublicKey  // by which the audit log is verified
	Control   *Control           // nil: there is nothing that could be away
	Updates   Updates            // nil: the appliance does not run from the image
	Clients   Clients            // nil: there is nothing to download
	Programs  map[string]Program // by the name that flows ask for them by; none: browsers get no further than the pages
	Log       *slog.Logger
	Limits    Limits
	Metrics   *Metrics // nil: nothing is counted
	Version   string
	Settings  func() []api.Setting // what administrators see of the configuration; nil: nothing

	policy    atomic.Pointer[policy.Policy]
	live      live
	relays    sync.WaitGroup // of the flows that are open
	breaches  quotas         // of the log
	events    quotas         // of the audit log
	asked     paces
	benches   benches
	runs      runs
	comings   comings
	downloads downloads
	rooms     rooms
	health    health
	reached   reached
	applying  sync.Mutex // held while a version of the access files is compared and put in force
}

// Limits of a Gateway. The zero value means the defaults.
type Limits struct {
	Flows          int           // open at once; default 10000
	FlowsPerUser   int           // default 256
	DialTimeout    time.Duration // default 10 seconds
	ResolveTimeout time.Duration // default 5 seconds
	Patience       time.Duration // for an admitted connection to ask for a flow; default 60 seconds
	Grace          time.Duration // that a flow lives without a connection; default 60 minutes, negative: none
	Detached       int           // flows without a connection at once; default 2000
	Approval       time.Duration // that a request waits for somebody's yes; default 10 minutes
	Approved       time.Duration // that a yes may last at most; default 8 hours
	Guest          time.Duration // that a guest link may be good at most; default 24 hours
	Bench          int           // people who measure at once; default 2
	BenchRate      int64         // bytes a second that each of them may move, both directions together; default 62,500,000
}

func (l Limits) withDefaults() Limits {
	l.Flows = cmp.Or(l.Flows, 10000)
	l.FlowsPerUser = cmp.Or(l.FlowsPerUser, 256)
	l.DialTimeout = cmp.Or(l.DialTimeout, 10*time.Second)
	l.ResolveTimeout = cmp.Or(l.ResolveTimeout, 5*time.Second)
	l.Patience = cmp.Or(l.Patience, 60*time.Second)
	l.Grace = max(0, cmp.Or(l.Grace, 60*time.Minute))
	l.Detached = cmp.Or(l.Detached, 2000)
	l.Approval = cmp.Or(l.Approval, 10*time.Minute)
	l.Approved = cmp.Or(l.Approved, 8*time.Hour)
	l.Guest = cmp.Or(l.Guest, 24*time.Hour)
	l.Bench = cmp.Or(l.Bench, 2)
	l.BenchRate = cmp.Or(l.BenchRate, 500e6/8)
	return l
}

// SetPolicy replaces the policy. Flows that the new one would not allow as they stand end.
func (g *Gateway) SetPolicy(p *policy.Policy) {
	g.policy.Store(p)
	g.review(p, "the rules have changed")
}

// review ends the flows that p does not allow as they stand.
func (g *Gateway) review(p *policy.Policy, because string) {
	g.live.each(func(f *flow) {
		if err := f.still(p, f.latest(), time.Now()); err != nil {
			f.end(changed(because, err))
		}
	})
}

// still asks p about a flow as it stands: its protocol and port, the host and the address that it leads to, who carries it
// from where, and its age. The answer is nil, or why p does not allow it.
func (f *flow) still(p *policy.Policy, from *frame.Peer, now time.Time) error {
	again := f.request(from, now)
	again.Protocol, again.Port = f.grant.Protocol, f.grant.Port
	g, err := f.gateway.decide(p, again, from.Device)
	if err == nil && p == f.gateway.policy.Load() { // and not one that is only thought of
		f.timed.Store(g.Timed || g.Lifetime > 0 || len(g.Approval) > 0)
	}
	switch {
	case err != nil:
		return err
	case g.VNet != f.grant.VNet || g.Host != f.grant.Host:
		return frame.Refuse(policy.CodeDenied, f.grant.Target+" lies elsewhere now", "connect again")
	case g.Lifetime > 0 && now.Sub(f.since()) > g.Lifetime:
		return lifetimeOver(g.Lifetime)
	}
	if addr := f.addr.Load(); addr != nil {
		if g, err = p.DecideAddress(g, addr.Addr()); err != nil {
			return err
		}
		if channel, lost := f.lostChannel(g); lost {
			return frame.Refuse(policy.CodeDenied, channel+" to and from "+f.grant.Target+" is not allowed any more", "connect again to go on without")
		}
	}
	return f.approved(g.Approval, now)
}

// changed says why a flow ends that was allowed when it began.
func changed(because string, err error) error {
	reason := reasonOf(err)
	reason.Sentence = because + ": " + reason.Sentence
	return &frame.StreamError{Reason: reason}
}

func lifetimeOver(lifetime time.Duration) error {
	return frame.Refuse("E_LIFETIME", fmt.Sprintf("the flow has reached its lifetime of %v", lifetime), "connect again")
}

// EndLocked ends the live flows that a new lock bars.
func (g *Gateway) EndLocked(l auth.Lock) {
	g.live.each(func(f *flow) {
		if l.Kind == auth.LockUser && l.Name == g.hostOf(f.peer.Device) {
			f.end(reasonError(auth.ErrGuestLink))
		}
		if l.Kind == auth.LockUser && l.Name == f.peer.User || l.Kind == auth.LockDevice && l.Name == f.peer.Device || l.Kind == auth.LockTarget && f.leadsTo(l.Name) {
			f.end(reasonError(l.Refusal()))
		}
	})
}

// barred says why a person with a device may not go on, whatever the rules say: the device is revoked or has expired, its
// sign-in is over, or there is a lock.
func (g *Gateway) barred(p frame.Peer) error {
	scope, err := g.Devices.ScopeOf(p.Device)
	if err == nil {
		err = g.invited(scope, time.Now())
	}
	if err != nil {
		return err
	}
	if _, err := g.standing(p.Device); err != nil {
		return err
	}
	return g.Locks.Check(p.User, p.Device, "")
}

// barred is the same for a flow, whose target may be locked by this name or another.
func (f *flow) barred(p frame.Peer) error {
	if err := f.gateway.barred(p); err != nil {
		return err
	}
	for _, l := range f.gateway.Locks.List() {
		if l.Kind == auth.LockTarget && f.leadsTo(l.Name) {
			return l.Refusal()
		}
	}
	return nil
}

// leadsTo says whether the flow goes to the machine of that name: it was asked for by that, by another name of the same
// host, or by its address.
func (f *flow) leadsTo(target string) bool {
	if f.grant.Target == target {
		return true
	}
	t, ok := f.gateway.policy.Load().Target(target)
	if !ok || t.VNet != f.grant.VNet {
		return false
	}
	addr := f.addr.Load()
	return t.Host == f.grant.Host || addr != nil && t.Host == addr.Addr().String()
}

// EndDevice ends the live flows of a device that may not go on, and says why.
func (g *Gateway) EndDevice(id string, why error) {
	g.live.each(func(f *flow) {
		if f.peer.Device == id {
			f.end(reasonError(why))
		}
	})
}

// A flow is one connection of a person to a target, or to what the appliance measures by.
type flow struct {
	gateway   *Gateway
	id        [16]byte
	session   [16]byte
	peer      frame.Peer                 // who opened it
	where     atomic.Pointer[frame.Peer] // the latest connection that carries it, if that is another
	incoming  *frame.Incoming
	open      frame.OpenRequest
	grant     policy.Grant
	decided   atomic.Pointer[decision]        // at its address
	joins     *Session                        // of a program, which somebody else has begun; may be nil
	ended     atomic.Bool                     // the audit log has the end
	written   bool                            // the audit log has the decision
	approvals atomic.Pointer[[]auth.Approval] // that it goes by; nil: it needs none
	timed     atomic.Bool                     // its right may end by itself, as the latest policy has it
	told      atomic.Int64                    // the shortest time.Duration that the person was told is left
	addr      atomic.Pointer[netip.AddrPort]  // of the target, once it is known
	begun     time.Time
	stream    atomic.Pointer[frame.Stream] // once it is open
	conn      relay.Conn                   // to the target, likewise
	relay     atomic.Pointer[relay.Relay]
	expiry    *time.Timer     // of its lifetime; may be nil
	bond      *frame.Bond     // of its first connection, until it is open
	kept      bool            // it outlives that
	life      context.Context // ends with it
	end       context.CancelCauseFunc
	detached  detached
}

// A decision is what allows a flow at its address, and what of its protocol.
type decision struct{ policies, channels []string }

func (f *flow) request(from *frame.Peer, now time.Time) policy.Request {
	r := f.gateway.requestOf(*from, now)
	r.Target, r.VNet, r.Protocol, r.Port, r.Program = f.open.Target, f.open.VNet, f.open.Protocol, f.open.Port, f.open.Program
	r.Opaque = r.Program == ""
	return r
}

// Flow serves one stream of an admitted client: an api flow, or one to a target, or one that measures.
func (g *Gateway) Flow(ctx context.Context, c frame.Carrier, p frame.Peer) {
	c = &containedCarrier{c, g, p}
	carries := false // a flow, which closes it
	defer func() {
		if !carries {
			c.Close()
		}
	}()
	accept, cancel := context.WithTimeout(ctx, g.Limits.withDefaults().Patience)
	in, err := frame.Accept(accept, c, g.options(p))
	cancel()
	if err != nil {
		g.Breach(p, err)
		return
	}
	if in.Resume != nil {
		carries = g.resume(ctx, in, p)
		return
	}
	if in.Open.Protocol == api.Protocol {
		if err := g.live.addAPI(p.User); err != nil {
			in.Refuse(err)
			return
		}
		defer g.live.removeAPI(p.User)
		g.serveAPI(ctx, in.Accept(frame.Opened{Flow: random(), Session: random(), Target: api.Protocol}), p)
		return
	}
	bond := p.Bond
	p.Bond = nil // a flow outlives the connection that it stands for
	f := &flow{gateway: g, peer: p, bond: bond, incoming: in, open: in.Open, begun: time.Now(), id: [16]byte(random()), session: [16]byte(random())}
	carries = f.begin(ctx)
}

// begin opens a flow, for as long as its connection lives, and lets it go on by itself; false if it came to nothing.
func (f *flow) begin(connection context.Context) bool {
	g, in := f.gateway, f.incoming
	ctx, end := context.WithCancelCause(context.WithoutCancel(connection))
	f.life, f.end = ctx, end
	defer context.AfterFunc(connection, func() { f.end(context.Cause(connection)) })()
	defer f.survive()
	conn, err := f.reach(ctx)
	if err == nil {
		if err = g.demand(f.openEvent()); err != nil {
			conn.Close()
		}
	}
	if err != nil {
		f.end(nil)
		g.live.remove(f)
		reason := reasonOf(err)
		f.refused(reason, err)
		in.Refuse(&frame.StreamError{Reason: reason})
		return false
	}
	f.stream.Store(in.Accept(f.opened()))
	g.Metrics.flowOpened(f)
	f.log(slog.LevelInfo, "flow opened")
	in.Watch(connection, f.uncarried) // which may be at once, and does not look at what follows
	f.conn = conn
	f.relay.Store(f.prepare(ctx, conn))
	g.relays.Add(1)
	if side, ok := conn.(*sideConn); ok {
		f.enter(side)
	}
	go f.run()
	return true
}

// run relays until the flow has ended, whatever connections carry it. While nothing moves this is the one goroutine that
// a flow has, and what stands on its stack is what an idle flow costs.
func (f *flow) run() {
	defer f.over()
	defer f.survive()
	f.relay.Load().Run()
	f.account()
}

// over lets go of all that a flow has.
func (f *flow) over() {
	f.conn.Close()
	if f.expiry != nil {
		f.expiry.Stop()
	}
	f.gateway.live.remove(f)
	f.gateway.Metrics.waiting(f.gateway.live.waitingNow())
	f.rest()
	f.end(nil)
	f.gateway.relays.Done()
}

// survive keeps a panic of the flow's own goroutine from being anybody else's.
func (f *flow) survive() {
	if v := recover(); v != nil {
		f.panicked(f.gateway.caught(v, f.attrs()...))
		f.end(nil)
		f.gateway.live.remove(f)
	}
}

// Close ends the flows that are left, and returns when all of them have ended.
func (g *Gateway) Close() {
	g.live.each(func(f *flow) { f.end(errStopping) })
	g.relays.Wait()
}

// refused counts, writes and logs that there is no flow, and which policy could not be evaluated if that is the reason.
func (f *flow) refused(why frame.Reason, err error) {
	f.gateway.Metrics.flowRefused(string(why.Code))
	if f.written {
		f.recordEnd(relay.Result{}, why)
	} else {
		f.gateway.recordOf(f.peer.User, f.refusal(why))
	}
	f.log(slog.LevelInfo, "flow refused", "cause", string(why.Code), "why", why.Sentence)
	var broken *policy.EvaluationError
	if errors.As(err, &broken) {
		f.log(slog.LevelWarn, "policy failed", "policy", broken.Policy, "at", broken.Place, "why", broken.Err)
	}
}

// reach decides, resolves, decides again and dials. A flow that it reaches a target for is in the list of live ones.
func (f *flow) reach(ctx context.Context) (relay.Conn, error) {
	g, limits := f.gateway, f.gateway.Limits.withDefaults()
	if err := f.checkProgram(); err != nil {
		return nil, err
	}
	p, err := f.awaitApproval(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.findSession(); err != nil {
		return nil, err
	}
	if err := f.controlled(); err != nil {
		return nil, err
	}
	if err := g.live.add(f, limits); err != nil {
		return nil, err
	}
	// Who revokes or locks now finds the flow in the list; who did so before is asked for.
	if err := f.barred(f.peer); err != nil {
		return nil, err
	}
	conn, err := f.dial(ctx, p, limits)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	// The same with the policy: it may have changed before the flow was in the list, or before its address was known.
	err = f.still(g.policy.Load(), &f.peer, time.Now())
	if err == nil {
		err = f.barred(f.peer) // by its address, which is known now
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func (f *flow) dial(ctx context.Context, p *policy.Policy, limits Limits) (relay.Conn, error) {
	if f.grant.Protocol == policy.Bench {
		if err := <-f.writeDecision(); err != nil {
			return nil, err
		}
		return f.gateway.benches.open(f.grant.Target, f.peer.User, limits)
	}
	if f.joins != nil {
		return f.join(p)
	}
	vnet, ok := f.gateway.VNets[f.grant.VNet]
	if !ok {
		return nil, frame.Refuse("E_UNREACHABLE", fmt.Sprintf("%s lies in VNet %q, which this appliance is not attached to", f.grant.Target, f.grant.VNet), "")
	}
	addr, err := f.resolve(ctx, vnet, limits.ResolveTimeout)
	if err != nil {
		return nil, f.unreached(err)
	}
	decided, err := p.DecideAddress(f.grant, addr)
	if err != nil {
		return nil, err
	}
	if err := f.approved(decided.Approval, time.Now()); err != nil {
		return nil, err
	}
	f.decided.Store(&decision{decided.Policies, decided.Channels})
	at := netip.AddrPortFrom(addr, f.grant.Port)
	f.addr.Store(&at)
	written := f.writeDecision()
	ctx, cancel := context.WithTimeout(ctx, limits.DialTimeout)
	defer cancel()
	conn, err := vnet.DialContext(ctx, "tcp", at.String())
	if unwritten := <-written; unwritten != nil {
		if err == nil {
			conn.Close()
		}
		return nil, unwritten
	}
	if err != nil {
		return nil, f.unreached(dialReason(f.name(), limits.DialTimeout, err))
	}
	f.gateway.reached.note(f.grant.Target, nil)
	if f.open.Program != "" {
		return f.startSession(conn)
	}
	return relay.Wrap(conn), nil
}

// unreached notes why the target was not reached, unless its person has given up, which says nothing of it.
func (f *flow) unreached(why error) error {
	if f.life.Err() == nil {
		f.gateway.reached.note(f.grant.Target, why)
	}
	return why
}

// writeDecision writes that the flow is allowed, while it is being dialled.
func (f *flow) writeDecision() <-chan error {
	e := f.event(audit.DecisionAllowed)
	e.Decision = "allow"
	e.By, e.Object = f.approvers()
	f.written = true
	written := make(chan error, 1)
	go func() { written <- f.gateway.demand(e) }()
	return written
}

// resolve finds the one address that is decided on and dialled.
func (f *flow) resolve(ctx context.Context, vnet VNet, limit time.Duration) (netip.Addr, error) {
	addrs := []netip.Addr{}
	if addr, err := netip.ParseAddr(f.grant.Host); err == nil {
		addrs = append(addrs, addr)
	} else {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		if addrs, err = vnet.LookupNetIP(ctx, "ip", f.grant.Host); err != nil {
			return netip.Addr{}, resolveReason(f.grant.Host, limit, err)
		}
	}
	addr, err := vnet.Choose(addrs)
	if err != nil {
		return netip.Addr{}, frame.Refuse(policy.CodeForbiddenAddress, fmt.Sprintf("%s is not reachable: %v", f.grant.Target, err),
			"the target's address must lie inside its VNet's prefixes")
	}
	return addr, nil
}

func (f *flow) opened() frame.Opened {
	return frame.Opened{Flow: f.id[:], Session: f.session[:], Target: f.grant.Target, Port: f.grant.Port, Rule: f.grant.Rule,
		Idle: f.grant.Idle.Milliseconds(), Lifetime: f.grant.Lifetime.Milliseconds(), Grace: f.keep().Milliseconds(), Grant: f.newGrant()}
}

// prepare makes the relay, which moves bytes until both directions have ended or ctx has.
func (f *flow) prepare(ctx context.Context, conn relay.Conn) *relay.Relay {
	if f.grant.Lifetime > 0 {
		f.expiry = time.AfterFunc(f.grant.Lifetime-time.Since(f.since()), func() { f.end(lifetimeOver(f.grant.Lifetime)) })
	}
	conn = throttle(conn, f.grant.Bandwidth/8)
	if f.open.Program == "" {
		conn = f.watchingKeys(guarded(f.grant.Protocol, conn))
	}
	return relay.New(ctx, f.stream.Load(), &containedConn{conn, f}, relay.Options{Idle: f.grant.Idle})
}

// account writes the flow's one line, which says why if the client broke the protocol, and then tells the client why the
// flow could not go on: what somebody was told is written.
func (f *flow) account() {
	result := f.relay.Load().Result()
	if _, ok := breachOf(result.Delivered); ok {
		result.Err = result.Delivered // and not that the client hung up when it was told
	}
	why := result.Err
	if errors.Is(why, errUnthanked) {
		result.Err = nil
	}
	f.logEnd(result)
	if why != nil {
		f.stream.Load().Reset(endReason(f, why))
	}
}

// logEnd writes the line, and counts the end.
func (f *flow) logEnd(r relay.Result) {
	cause, level, why := "ended", slog.LevelInfo, []any(nil)
	var reason frame.Reason
	if r.Err != nil {
		reason = endReason(f, r.Err)
		cause = string(reason.Code)
	}
	f.recordEnd(r, reason)
	if breach, ok := breachOf(r.Err); ok {
		f.gateway.Metrics.breach(breach.Code)
		level, why = slog.LevelWarn, []any{"why", breach.Sentence}
	}
	f.gateway.Metrics.flowEnded(r, cause)
	f.gateway.health.ended(r)
	line := []any{"up", r.Up, "down", r.Down, "dur", time.Since(f.begun).Round(time.Millisecond), "cause", cause}
	f.log(level, "flow ended", append(line, why...)...)
}

// panicked ends a flow whose own goroutine met a bug.
func (f *flow) panicked(e *panicError) {
	s := f.stream.Load()
	f.recordEnd(relay.Result{}, e.reason())
	if s == nil {
		f.gateway.Metrics.flowRefused(string(frame.Internal))
		f.incoming.Refuse(&frame.StreamError{Reason: e.reason()})
		return
	}
	f.gateway.Metrics.flowEnded(relay.Result{}, string(frame.Internal))
	s.Reset(e.reason())
}

// name is what people call where the flow goes.
func (f *flow) name() string {
	return net.JoinHostPort(f.grant.Target, strconv.Itoa(int(f.grant.Port)))
}

// latest is the latest connection that carried the flow.
func (f *flow) latest() *frame.Peer { return cmp.Or(f.where.Load(), &f.peer) }

func (f *flow) log(level slog.Level, message string, more ...any) {
	f.gateway.Log.Log(context.Background(), level, message, append(f.attrs(), more...)...)
}

// attrs are what every line about the flow has.
func (f *flow) attrs() []any {
	target := f.grant.Target
	if target == "" {
		target = f.open.Target
	}
	now := f.latest()
	attrs := []any{"flow", hex.EncodeToString(f.id[:6]), "user", f.peer.User, "device", f.peer.Device, "source", now.Remote.Addr(),
		"target", frame.Clip(target, 255), "protocol", frame.Clip(cmp.Or(f.grant.Protocol, f.open.Protocol), 16), "rule", f.grant.Rule,
		"transport", now.Transport}
	if addr := f.addr.Load(); addr != nil {
		attrs = append(attrs, "addr", *addr, "vnet", f.grant.VNet)
	}
	return attrs
}

func random() []byte {
	b := make([]byte, 16)
	rand.Read(b)
	return b
}

// tell passes a message on to the client, once the flow is open.
func (f *flow) tell(d frame.Drain) {
	if s := f.stream.Load(); s != nil {
		s.AskToMove(d)
	}
}
