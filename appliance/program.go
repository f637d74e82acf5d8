package appliance

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/appliance/audit"
	"sallyport/appliance/policy"
	"sallyport/frame"
	"sallyport/relay"
)

// A Program speaks a target's protocol itself, for a person whose browser cannot. A flow that names one is not opaque: the
// bytes of the flow are the program's own messages, and what policy denies in a connection the program leaves out.
//
//	open → decide → dial → Session ──► Serve(ctx, session)
//	                          ▲            Next → the Side that began it
//	open (session) → decide ──┘            Next → another, as often as one joins
type Program interface {
	// Protocol is the one that it speaks, of those that targets offer.
	Protocol() string

	// Serve works for those who have a session, and returns when it is over. A reason of package frame is what they are
	// told; nil ends their flows in order, after what was written to them. It returns soon after the end of ctx, which
	// the last side's end brings about, and waits for the goroutines that it has started other than by Session.Go.
	Serve(ctx context.Context, s *Session) error
}

// A Host is a Program whose sessions take flows of other programs too.
type Host interface {
	Program
	// Joins says whether a flow of a program may join.
	Joins(program string) bool
}

// A Session is one run of a Program: a connection to a target, and the flows of the person who works on it.
type Session struct {
	ID           [16]byte
	User, Device string
	Target       string
	Grant        policy.Grant // of the flow that began it; what a flow may do now is in its Side
	Far          net.Conn     // to the target; it is closed when Serve has returned
	Log          *slog.Logger

	program string
	flow    *flow // that began it
	begun   time.Time
	ctx     context.Context
	end     context.CancelCauseFunc
	workers sync.WaitGroup
	came    chan struct{} // has a token when a side has come

	mu     sync.Mutex
	sides  map[*Side]struct{} // those whose flow has not ended
	queue  []*Side            // for Next
	runs   bool               // there is somebody to close Far
	ending bool               // takes no more sides
	broken error              // what a worker's panic became
}

// maxSides is how many flows a session has at once: a terminal, and transfers.
const maxSides = 16

// afterEnd is how long the flows of a session that is over wait for their clients to end their directions too.
const afterEnd = 30 * time.Second

// errNoSession is the answer to who wants to join a session that is over, that never was, or that is another's.
var errNoSession = frame.Refuse("E_SESSION_UNKNOWN", "there is no such session that you may join", "connect again")

// errSessionOver ends what is left of a session.
var errSessionOver = frame.Refuse(frame.Closed, "the session is over", "connect again")

// runs are the sessions of programs. Its zero value is none.
type runs struct {
	mu   sync.Mutex
	byID map[[16]byte]*Session
}

func (r *runs) find(id []byte) *Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byID[[16]byte(id)]
}

// maxRuns is how many sessions of programs a person has at once. Each may hold some MiB: what a terminal shows again, what is
// under way, what is on a clipboard.
const maxRuns = 32

// add counts a session in, or says why its person may have no more.
func (r *runs) add(s *Session) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, other := range r.byID {
		if other.User == s.User {
			n++
		}
	}
	if n >= maxRuns {
		return frame.Refuse("E_LIMIT", fmt.Sprintf("you have %d sessions open in browsers, which is the limit", n), "close a tab, or end a session on the page My sessions")
	}
	if r.byID == nil {
		r.byID = map[[16]byte]*Session{}
	}
	r.byID[s.ID] = s
	return nil
}

func (r *runs) remove(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, s.ID)
}

// checkProgram says why there is no such program for the flow's protocol.
func (f *flow) checkProgram() error {
	name := f.open.Program
	if name == "" {
		return nil
	}
	p := f.gateway.Programs[name]
	switch {
	case p == nil:
		return frame.Refuse("E_NAME", fmt.Sprintf("there is no program %q on this appliance", frame.Clip(name, 16)), "page and appliance may be of different versions; reload the page")
	case p.Protocol() != f.open.Protocol:
		return frame.Refuse("E_NAME", fmt.Sprintf("the program %s is for %s, and not for %s", name, p.Protocol(), frame.Clip(f.open.Protocol, 16)), "")
	}
	return nil
}

// findSession finds the session that the flow joins, once its grant is known. Whoever may not join learns nothing of it.
func (f *flow) findSession() error {
	if f.open.Program == "" || len(f.open.Session) == 0 {
		return nil
	}
	s := f.gateway.runs.find(f.open.Session)
	if s == nil || !s.takes(f) {
		return errNoSession
	}
	f.joins, f.session = s, s.ID
	return nil
}

// takes says whether a flow is of the same person, device and target, and of a program that belongs here.
func (s *Session) takes(f *flow) bool {
	host, ok := s.flow.gateway.Programs[s.program].(Host)
	return s.User == f.peer.User && s.Device == f.peer.Device && (s.program == f.open.Program || ok && host.Joins(f.open.Program)) &&
		s.Grant.Target == f.grant.Target && s.Grant.VNet == f.grant.VNet && s.Grant.Host == f.grant.Host &&
		s.Grant.Protocol == f.grant.Protocol && s.Grant.Port == f.grant.Port
}

// since is when the flow began, or the session that it has joined: nobody prolongs one by joining it.
func (f *flow) since() time.Time {
	if f.joins != nil {
		return f.joins.begun
	}
	return f.begun
}

// join gives the flow a side of the session that it joins. It leads where the session does.
func (f *flow) join(p *policy.Policy) (relay.Conn, error) {
	s := f.joins
	if addr := s.flow.addr.Load(); addr != nil {
		decided, err := p.DecideAddress(f.grant, addr.Addr())
		if err != nil {
			return nil, err
		}
		if err := f.approved(decided.Approval, time.Now()); err != nil {
			return nil, err
		}
		f.decided.Store(&decision{decided.Policies, decided.Channels})
		f.addr.Store(addr)
	}
	if err := <-f.writeDecision(); err != nil {
		return nil, err
	}
	c, err := s.newSide(f)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// startSession makes a session of a flow that has dialled. It runs when the flow is open.
func (f *flow) startSession(far net.Conn) (relay.Conn, error) {
	s := &Session{ID: f.session, User: f.peer.User, Device: f.peer.Device, Target: f.grant.Target, Grant: f.granted(), Far: far, program: f.open.Program, flow: f,
		begun: f.begun, came: make(chan struct{}, 1), sides: map[*Side]struct{}{}}
	s.Log = f.gateway.Log.With("session", hex.EncodeToString(s.ID[:6]), "user", s.User, "target", s.Target, "program", s.program)
	s.ctx, s.end = context.WithCancelCause(context.WithoutCancel(f.life))
	c, err := s.newSide(f)
	if err == nil {
		s.queue = []*Side{c.side}
		err = f.gateway.runs.add(s) // before anybody is told its id
	}
	if err != nil {
		s.end(err)
		far.Close()
		return nil, err
	}
	return c, nil
}

// newSide takes a flow in, unless the session is about to end.
func (s *Session) newSide(f *flow) (*sideConn, error) {
	side := &Side{Grant: f.granted(), Program: f.open.Program, session: s, flow: f, up: newHalf(), down: newHalf(), over: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ending:
		return nil, errNoSession
	case len(s.sides) >= maxSides:
		return nil, frame.Refuse("E_LIMIT", fmt.Sprintf("the session has %d flows, which is the limit", maxSides), "close a tab, or wait until a transfer has ended")
	}
	s.sides[side] = struct{}{}
	return &sideConn{side}, nil
}

// granted is the flow's grant with the channels that are allowed at its address.
func (f *flow) granted() policy.Grant {
	g := f.grant
	if d := f.decided.Load(); d != nil {
		g.Policies, g.Channels = d.policies, d.channels
	}
	return g
}

// lostChannel is a channel that a program's flow was granted and that a later grant does not have.
func (f *flow) lostChannel(now policy.Grant) (channel string, lost bool) {
	d := f.decided.Load()
	if f.open.Program == "" || d == nil {
		return "", false
	}
	i := slices.IndexFunc(d.channels, func(c string) bool { return !slices.Contains(now.Channels, c) })
	if i < 0 {
		return "", false
	}
	return d.channels[i], true
}

// enter brings a flow that is open now to its session, and begins that if it is the first.
func (f *flow) enter(c *sideConn) {
	s := c.side.session
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.flow == f:
		s.runs = true
		f.gateway.relays.Add(1)
		go s.run()
	case s.ending:
		c.side.finish(s.broken)
	default:
		s.queue = append(s.queue, c.side)
		signal(s.came)
	}
}

// run serves until the program has ended, and ends the flows that are left.
func (s *Session) run() {
	defer s.flow.gateway.relays.Done()
	err := s.serve()
	s.mu.Lock()
	s.ending = true
	if err = cmp.Or(s.broken, err); context.Cause(s.ctx) != nil && s.broken == nil && errors.Is(err, context.Cause(s.ctx)) {
		err = nil // all have gone
	}
	s.broken = err
	for side := range s.sides {
		side.up.drop() // for who reads it
	}
	s.mu.Unlock()
	s.flow.gateway.runs.remove(s)
	s.end(errSessionOver)
	s.Far.Close()
	s.workers.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for side := range s.sides {
		side.finish(err)
	}
	if err != nil {
		s.Log.Info("program ended", "cause", reasonOf(err).Code, "why", err)
	}
}

func (s *Session) serve() (err error) {
	defer s.flow.contain(&err)
	return s.flow.gateway.Programs[s.program].Serve(s.ctx, s)
}

// Go runs a part of the program beside Serve. A panic in it ends the session and nothing else; the session waits for it
// before its flows end: reads and writes that wait return when Serve has.
func (s *Session) Go(work func()) {
	s.workers.Go(func() {
		var err error
		func() {
			defer s.flow.contain(&err)
			work()
		}()
		if err != nil {
			s.mu.Lock()
			s.broken = cmp.Or(s.broken, err)
			s.mu.Unlock()
			s.end(err)
		}
	})
}

// Next is the first side at once, and then another whenever a flow has joined. It returns the cause of ctx when that, or of
// the session when that, ends first.
func (s *Session) Next(ctx context.Context) (*Side, error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			side := s.queue[0]
			s.queue = s.queue[1:]
			s.mu.Unlock()
			return side, nil
		}
		s.mu.Unlock()
		select {
		case <-s.came:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-s.ctx.Done():
			return nil, context.Cause(s.ctx)
		}
	}
}

// leave notes that a side's flow has ended. The last one takes the session with it.
func (s *Session) leave(side *Side) {
	s.mu.Lock()
	delete(s.sides, side)
	last, runs := len(s.sides) == 0, s.runs
	s.ending = s.ending || last
	s.mu.Unlock()
	if !last {
		return
	}
	s.end(errSessionOver)
	if !runs {
		s.flow.gateway.runs.remove(s)
		s.Far.Close()
	}
}

// Dial connects to the target once more, at the address that was decided on.
func (s *Session) Dial(ctx context.Context) (net.Conn, error) {
	addr := s.flow.addr.Load()
	vnet, ok := s.flow.gateway.VNets[s.Grant.VNet]
	if !ok || addr == nil {
		return nil, frame.Refuse("E_UNREACHABLE", s.Target+" lies in a VNet that this appliance is not attached to", "")
	}
	limit := s.flow.gateway.Limits.withDefaults().DialTimeout
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := vnet.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return nil, dialReason(s.flow.name(), limit, err)
	}
	return conn, nil
}

// Record writes an event of the session's to the audit log, with what is known of the flow that began it. What may not
// happen without being written does not when it returns an error.
func (s *Session) Record(e audit.Event) error { return s.flow.recordProgram(e) }

func (f *flow) recordProgram(e audit.Event) error {
	known := f.event(e.Kind)
	known.Code, known.Why, known.Object, known.Detail = e.Code, e.Why, e.Object, e.Detail
	known.Up, known.Down, known.Duration = e.Up, e.Down, e.Duration
	if known.Code == string(policy.CodeDenied) { // which somebody, or their target, can bring about again and again
		return f.gateway.recordOf(f.peer.User, known)
	}
	return f.gateway.demand(known)
}

// CheckHostKey says why the program may not go on with an SSH server that shows this key, in its form on the wire. A target
// that nothing is known of, and that nothing can be written down of, is not trusted.
func (s *Session) CheckHostKey(key []byte) error {
	if s.flow.gateway.HostKeys == nil && !s.flow.fixed() {
		return frame.Refuse("E_TARGET_IDENTITY", fmt.Sprintf("this appliance keeps no host keys, and the policy names none of %s", s.Target), "an administrator can write host_keys in the access file")
	}
	return s.flow.checkKey(key)
}

// HostKeys are the keys that the target is known by, as lines of authorized_keys, and whether there are authorities whose
// certificates count too.
func (s *Session) HostKeys() (lines []string, certified bool) {
	lines = s.Grant.HostKeys
	if !s.flow.fixed() && s.flow.gateway.HostKeys != nil {
		for _, k := range s.flow.gateway.HostKeys.Of(s.flow.pinName()) {
			lines = append(lines, k.Line())
		}
	}
	return lines, len(s.Grant.HostCA) > 0
}

// Certificate has the appliance's authority certify an SSH key for the session's person and target.
func (s *Session) Certificate(key ssh.PublicKey) (*ssh.Certificate, error) {
	return s.flow.certify(key)
}
