package client

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	"sallyport/frame"
	"sallyport/transport"
)

// held is a session that commands share. The Agent's mu guards what changes.
type held struct {
	profile *Profile
	direct  *Direct
	stamp   [32]byte // of the sign-in
	life    context.Context
	cancel  context.CancelCauseFunc // ends all flows

	flows   int                // and questions
	used    time.Time          // when the last of them ended
	session *transport.Session // the last one
	number  uint64             // its
	path    *Path
	notices []string // for the next command
}

// end ends all flows, for a reason that their commands are told.
func (h *held) end(why string) {
	h.cancel(frame.Refuse(frame.Auth, why, ""))
}

// signIn reads a profile, and a stamp that changes when the device has enrolled anew.
func (h Home) signIn(name string) (p *Profile, stamp [32]byte, err error) {
	if p, err = h.Profile(name); err != nil {
		return nil, stamp, err
	}
	like := *p
	like.Identity = nil // grows by itself
	b, err := json.Marshal(like)
	return p, sha256.Sum256(append(b, h.keyStamp(p)...)), err
}

func signedOut(err error) bool {
	r, ok := frame.ReasonOf(err)
	return ok && r.Code == frame.Auth
}

// hold returns the session that a question is about and counts a use of it, which end ends.
func (a *Agent) hold(q question) (*held, error) {
	if q.Appliance == "" {
		return nil, frame.Refuse("E_USAGE", "no appliance is named", "")
	}
	mode, err := transport.ParseMode(string(q.Transport))
	if err != nil {
		return nil, frame.Refuse("E_USAGE", err.Error(), "")
	}
	var proxy *url.URL
	if q.Proxy != "" {
		if proxy, err = url.Parse(q.Proxy); err != nil {
			return nil, frame.Refuse("E_PROXY", "the proxy's name does not parse", "check HTTPS_PROXY")
		}
	}
	profile, stamp, err := a.Home.signIn(q.Appliance)
	if err != nil {
		return nil, err
	}
	defer a.reap()
	key := sessionKey{q.Appliance, mode, q.Proxy}
	a.mu.Lock()
	h := a.shared(key, stamp)
	a.mu.Unlock()
	if h != nil {
		return h, nil
	}
	h = &held{profile: profile, stamp: stamp, flows: 1}
	h.direct, err = NewDirect(a.Home, profile, Options{Transport: mode, Software: a.Version, Spares: Spares,
		Notice: func(line string) { a.notice(h, line) }})
	if err != nil {
		return nil, err
	}
	h.direct.dial.Memory = a.memory
	h.direct.dial.Proxy = func(*url.URL) (*url.URL, error) { return proxy, nil }
	a.mu.Lock()
	defer a.mu.Unlock()
	if other := a.shared(key, stamp); other != nil { // a keychain takes its time
		h.direct.Close()
		return other, nil
	}
	h.life, h.cancel = context.WithCancelCause(context.Background())
	a.sessions[key] = h
	return h, nil
}

// shared counts a use of the session that is there for a sign-in. One of another sign-in is retired. The caller holds a.mu.
func (a *Agent) shared(key sessionKey, stamp [32]byte) *held {
	h := a.sessions[key]
	switch {
	case h == nil:
		return nil
	case h.stamp != stamp:
		a.retire(key, h)
		return nil
	}
	h.flows++
	return h
}

// notice keeps a line for the next command.
func (a *Agent) notice(h *held, line string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(h.notices) < 8 {
		h.notices = append(h.notices, line)
	}
}

// A ride is a carrier and the session that it is on.
type ride struct {
	frame.Carrier
	session *transport.Session
	number  uint64 // the session's
}

// carrier opens a carrier, if a flow is asked for. A session that does not give one is replaced once.
func (a *Agent) carrier(ctx context.Context, h *held, q question) (c *ride, fresh bool, err error) {
	dead := q.Dead
	for again := false; ; again = true {
		s, fresh, err := a.session(ctx, h, dead, q.Lost)
		if err != nil || q.Ask != askFlow {
			return nil, fresh, err
		}
		var c frame.Carrier
		if q.Lost.IsZero() {
			c, err = s.Carrier(ctx)
		} else { // what RESUME proves is bound to the connection
			c, _, err = s.Admitted(ctx)
		}
		if err == nil {
			h.direct.use(s)
			return &ride{c, s, a.numberOf(h, s)}, fresh, nil
		}
		if fresh || again || ctx.Err() != nil {
			return nil, fresh, h.direct.reason(ctx, err)
		}
		a.mu.Lock()
		dead = h.number
		a.mu.Unlock()
	}
}

// session returns the transport session, another than the one of number dead, for a new flow or, if lost is a time, for
// one that needs it since then.
func (a *Agent) session(ctx context.Context, h *held, dead uint64, lost time.Time) (s *transport.Session, fresh bool, err error) {
	if lost.IsZero() {
		s, fresh, err = h.direct.connect(ctx, a.dead(h, dead))
	} else {
		s, err = h.direct.reconnect(ctx, a.numberedSession(h, dead), lost)
	}
	if err != nil {
		return nil, false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if h.session != s {
		a.numbered++
		h.session, h.number, h.path = s, a.numbered, pathOf(s)
		h.path.Agent = os.Getpid()
		a.Log.Info("session", "appliance", h.profile.Name, "transport", s.Transport, "remote", s.Remote)
	}
	return s, fresh, nil
}

// dead is the session of that number if it is the last one and of no use any more. A QUIC connection knows by itself
// that it is dead, a moment after its streams; while it lives, so do the flows of others on it.
func (a *Agent) dead(h *held, number uint64) *transport.Session {
	s := a.numberedSession(h, number)
	if s != nil && s.Transport == "quic" {
		select {
		case <-s.Done():
		case <-time.After(200 * time.Millisecond):
			return nil
		}
	}
	return s
}

// numberOf is the number of a session; 0 if it is not the last one any more.
func (a *Agent) numberOf(h *held, s *transport.Session) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if h.session != s {
		return 0
	}
	return h.number
}

// numberedSession is the session of that number if it is the last one.
func (a *Agent) numberedSession(h *held, number uint64) *transport.Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	if number == 0 || number != h.number {
		return nil
	}
	return h.session
}

// bond is what the connection of a flow's carrier gives the flow; its secret only if id says which flow it is for.
func (a *Agent) bond(flow uint64, id []byte) (*agentBond, error) {
	a.mu.Lock()
	of := a.bonds[flow]
	a.mu.Unlock()
	if of == nil {
		return nil, frame.Refuse(frame.Lost, "the flow's connection is gone", "")
	}
	b := of()
	if b == nil {
		return nil, frame.Refuse(frame.Lost, "the flow's connection is not admitted yet", "")
	}
	out := &agentBond{User: b.User, Device: b.Device, Binding: b.Binding}
	var err error
	if len(id) > 0 {
		out.Secret, err = b.Secret(id)
	}
	return out, err
}

// connect answers a question for a path or a flow, and carries the flow.
func (a *Agent) connect(ctx context.Context, c *net.UnixConn, q question) {
	asking, stop := whileThere(ctx, c)
	if a.slept() {
		a.sweep(true)
	}
	h, err := a.hold(q)
	if err == nil {
		defer a.end(h)
	}
	var carrier *ride
	reply := answer{Version: a.Version}
	if err == nil {
		carrier, reply.Fresh, err = a.carrier(asking, h, q)
	}
	if carrier != nil {
		defer h.direct.release(carrier.session)
	}
	if !stop() {
		if carrier != nil {
			carrier.Close()
		}
		return // nobody is there to be answered
	}
	if err != nil {
		f := Explain(err)
		reply.Failure = &f
		writeMessage(c, reply)
		return
	}
	flow := a.complete(h, carrier, &reply)
	defer a.forgetBond(flow)
	err = writeMessage(c, reply)
	if carrier == nil {
		return
	}
	shared := &oneAtATime{Carrier: carrier.Carrier}
	if err != nil {
		shared.Close()
		return
	}
	for _, end := range []context.Context{ctx, h.life} {
		unhook := context.AfterFunc(end, func() { shared.Close() })
		defer unhook()
	}
	splice(c, shared, func(err error) {
		if cause := context.Cause(h.life); cause != nil {
			err = cause
		} else if ctx.Err() != nil {
			err = errAgentEnded
		}
		a.keepWhy(flow, h.direct.reason(ctx, err))
	})
}

// complete says in an answer what was found.
func (a *Agent) complete(h *held, c *ride, reply *answer) (flow uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flows++
	reply.Flow, reply.Session, reply.Path, reply.Notices = a.flows, h.number, h.path, h.notices
	h.notices = nil
	if c != nil {
		reply.Session = c.number
		if c.session != h.session {
			reply.Path = pathOf(c.session)
		}
		a.bonds[a.flows] = func() *frame.Bond { return c.session.Known(c.Carrier) }
	}
	return a.flows
}

func (a *Agent) forgetBond(flow uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.bonds, flow)
}

// end is the reverse of hold.
func (a *Agent) end(h *held) {
	defer a.reap()
	a.mu.Lock()
	defer a.mu.Unlock()
	h.flows--
	h.used = time.Now()
}

// whileThere is a context that ends when the command hangs up. It says nothing before it has its answer, so whatever
// can be read is the end. stop says whether the command is still there.
func whileThere(ctx context.Context, c *net.UnixConn) (_ context.Context, stop func() bool) {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	gone := false
	watch.Go(func() {
		_, err := c.Read(make([]byte, 1))
		if gone = !errors.Is(err, os.ErrDeadlineExceeded); gone {
			cancel()
		}
	})
	return ctx, func() bool {
		c.SetReadDeadline(time.Unix(1, 0))
		watch.Wait()
		cancel()
		c.SetReadDeadline(time.Time{})
		return !gone
	}
}
