package client

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"time"

	"sallyport/frame"
	"sallyport/transport"
)

// A seat is where a flow is: on a session of the agent's, or of our own.
type seat struct {
	shared  *Shared
	answer  *answer // the agent's, for the latest carrier
	direct  *Direct
	session *transport.Session // with direct
	failed  *transport.Session // one that the flow could not be moved to
	asked   time.Time          // when the agent was asked for a better way
	dead    uint64             // the agent's number of one that the flow could not be moved to
	unheard int                // RESUMEs in a row that were not answered
}

// An appliance that has admitted a connection answers a RESUME at once. If it does not, the network has gone again since,
// and another attempt will hear sooner of its return; each attempt waits longer than the one before.
const (
	resumeIn     = 500 * time.Millisecond
	resumeAtMost = 5 * time.Second
)

// resumeOn moves the flow to a session.
func (t *seat) resumeOn(ctx context.Context, s *transport.Session, stream *frame.Stream, why frame.Why) error {
	open, cancel := context.WithTimeout(ctx, resumeAtMost)
	defer cancel()
	c, bond, err := s.Admitted(open)
	if err != nil {
		return err
	}
	return t.resume(ctx, stream, c, bond, why)
}

// resume moves the flow to a carrier, and does not wait for long.
func (t *seat) resume(ctx context.Context, stream *frame.Stream, c frame.Carrier, bond *frame.Bond, why frame.Why) error {
	wait := patience(resumeIn, stream.Vitals().RTT) << min(t.unheard, 4)
	ctx, cancel := context.WithTimeout(ctx, min(wait, resumeAtMost))
	defer cancel()
	err := stream.Resume(ctx, c, bond, why)
	if t.unheard = 0; err != nil && ctx.Err() != nil {
		t.unheard++
	}
	return err
}

// hold has a keeper hold a flow up until that has ended, or life has: the Dialer's, and then the flow's too.
func (t *seat) hold(life context.Context, stream *frame.Stream, opened *frame.Opened, tell func(string)) {
	k := &keeper{stream: stream, grace: time.Duration(opened.Grace) * time.Millisecond, tell: tell,
		rejoin: t.rejoin(stream), where: t.where, better: t.better, onQUIC: t.onQUIC}
	if t.mayMove() {
		k.bulk = &bulk{}
	}
	k.run(life)
	t.leave()
	if life.Err() != nil {
		stream.GiveUp(errClosed)
	}
}

// errClosed ends flows whose Dialer was closed.
var errClosed = frame.Refuse(frame.Lost, "the client has closed the connection to the appliance", "")

func (t *seat) where() netip.Addr {
	if t.session != nil {
		return here.towards(t.session.Remote)
	}
	remote, err := netip.ParseAddrPort(t.answer.Path.Remote)
	if err != nil {
		return netip.Addr{}
	}
	return here.towards(remote)
}

// mayMove says whether the flow may leave its transport for a faster one.
func (t *seat) mayMove() bool {
	if t.direct != nil {
		return t.direct.movesBulk
	}
	return t.shared.opts.movesBulk()
}

func (t *seat) onQUIC() bool {
	if t.session != nil {
		return t.session.Transport == "quic"
	}
	return t.answer.Path.Transport == "quic"
}

// better says that the flow is on HTTPS and could be on QUIC.
func (t *seat) better() bool {
	if t.session != nil {
		return !t.onQUIC() && t.direct.onQUIC()
	}
	if t.onQUIC() || time.Since(t.asked) < askBetter {
		return false
	}
	t.asked = time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), mutePatience)
	defer cancel()
	path, err := t.shared.knownPath(ctx)
	return err == nil && path.Transport == "quic"
}

// askBetter is how often an agent is asked whether it has found a better way.
const askBetter = 5 * time.Second

func (t *seat) leave() {
	if t.session != nil {
		t.direct.release(t.session)
	}
}

// rejoin moves a flow to another carrier of the agent's, or to a session of our own where there is no agent.
func (t *seat) rejoin(stream *frame.Stream) func(context.Context, time.Time, frame.Why) error {
	return func(ctx context.Context, lost time.Time, why frame.Why) error {
		if t.direct != nil {
			return t.rejoinDirect(ctx, stream, lost, why)
		}
		if why == frame.WhyBulk { // without the agent, which would copy every byte once more
			return t.rejoinAlone(ctx, stream, lost)
		}
		q := t.shared.question(askFlow)
		q.Dead, q.Lost = cmp.Or(t.dead, t.answer.Session), lost.Round(0)
		c, a, err := t.shared.ask(ctx, q)
		if errors.Is(err, errNoAgent) {
			d, err := t.shared.instead()
			if err != nil {
				return err
			}
			t.direct = d
			return t.rejoinDirect(ctx, stream, lost, why)
		}
		if err != nil {
			return err
		}
		t.dead = a.Session // if this comes to nothing
		bond, err := t.shared.bond(ctx, a.Flow, nil)
		if err != nil {
			c.Close()
			return err
		}
		if err := t.resume(ctx, stream, &agentCarrier{UnixConn: c, shared: t.shared, flow: a.Flow}, bond, why); err != nil {
			return err
		}
		t.answer, t.dead = a, 0
		return nil
	}
}

// rejoinAlone moves a flow that moves much to a connection of this process's own.
func (t *seat) rejoinAlone(ctx context.Context, stream *frame.Stream, lost time.Time) (err error) {
	if t.direct, err = t.shared.besides(); err == nil {
		err = t.rejoinDirect(ctx, stream, lost, frame.WhyBulk)
	}
	if err != nil {
		t.direct = nil
	}
	return err
}

// rejoinDirect keeps the session that the flow is on until another one has it.
func (t *seat) rejoinDirect(ctx context.Context, stream *frame.Stream, lost time.Time, why frame.Why) error {
	dead := t.session
	if t.failed != nil {
		dead = t.failed
	}
	var next *transport.Session
	var err error
	if why == frame.WhyBulk {
		next, err = t.direct.aside(ctx)
	} else {
		next, err = t.direct.reconnect(ctx, dead, lost)
	}
	if err != nil {
		return err
	}
	t.direct.use(next)
	if err := t.resumeOn(ctx, next, stream, why); err != nil {
		t.direct.release(next)
		var refusal *frame.StreamError
		if why != frame.WhyBulk && (!errors.As(err, &refusal) || !refusal.Remote) { // which is no fault of the connection's
			t.failed = next
		}
		return err
	}
	if t.session != nil {
		t.direct.release(t.session)
	}
	t.session, t.failed = next, nil
	return nil
}
