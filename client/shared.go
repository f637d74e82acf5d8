package client

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpproxy"

	"sallyport/frame"
)

// Shared is a Dialer that uses the agent's sessions. Where no agent can be had it is a Direct, without a word: the
// person gets what was asked for either way, and the doctor says why there is no agent.
type Shared struct {
	home    Home
	profile *Profile
	opts    Options
	agent   AgentOptions
	notice  func(string)

	life    context.Context // until Close
	close   context.CancelFunc
	keepers sync.WaitGroup

	mu     sync.Mutex
	direct *Direct // once there was no agent
	beside *Direct // once a flow has left the agent
}

// AgentOptions say how a command finds its agent.
type AgentOptions struct {
	Version string // of the program; an agent of another makes room for one of this

	// Start starts an agent for the Home, in a process of its own; ended is closed if that ends while this one lives.
	// If Start is nil an agent that runs is used, if there is one.
	Start func() (ended <-chan struct{}, err error)
}

// NewShared returns a Dialer for the appliance of a profile; it does not connect yet.
func NewShared(h Home, p *Profile, o Options, agent AgentOptions) *Shared {
	s := &Shared{home: h, profile: p, opts: o, agent: agent, notice: o.Notice}
	s.life, s.close = context.WithCancel(context.Background())
	if s.notice == nil {
		s.notice = func(string) {}
	}
	return s
}

func (s *Shared) tell(text string) {
	if text = frame.Clip(text, 600); text != "" {
		s.notice(text)
	}
}

// Open implements Dialer. A session that turns out to be dead is replaced once.
func (s *Shared) Open(ctx context.Context, req frame.OpenRequest, first *First) (Flow, *frame.Opened, error) {
	q := s.question(askFlow)
	opts := telling(s.tell)
	opts.Early = first.early()
	req = s.home.withGrant(s.profile.Name, req)
	for {
		c, a, err := s.ask(ctx, q)
		if errors.Is(err, errNoAgent) {
			d, err := s.instead()
			if err != nil {
				return nil, nil, err
			}
			return d.Open(ctx, req, first)
		}
		if err != nil {
			return nil, nil, err
		}
		stream, opened, err := frame.Open(ctx, &agentCarrier{UnixConn: c, shared: s, flow: a.Flow}, req, opts)
		if err == nil {
			s.keep(stream, opened, a)
			s.home.keepGrant(s.profile.Name, req, opened, time.Now())
		}
		switch {
		case err == nil:
			s.tell(opened.Notice)
			return stream, opened, nil
		case ctx.Err() != nil:
			return nil, nil, context.Cause(ctx)
		case a.Fresh || q.Dead != 0 || !lostOnTheWay(err) || !first.mayRepeat(req.Protocol):
			return nil, nil, err
		}
		q.Dead = a.Session
	}
}

// keep holds a flow up that the appliance keeps when its connection is lost. The agent knows the connection; where there
// is no agent any more the flow goes on without one. Nobody waits for that: a flow that is lost before ends, as one does
// that is lost while it is opened.
func (s *Shared) keep(stream *frame.Stream, opened *frame.Opened, a *answer) {
	if opened.Grace == 0 {
		return
	}
	on := &seat{shared: s, answer: a}
	s.keepers.Go(func() {
		bond, err := s.bond(s.life, a.Flow, opened.Flow)
		for try := 1; err != nil && try < bondTries && !closed(stream.Done()) && s.life.Err() == nil; try++ { // it may only be busy
			time.Sleep(bondPause)
			bond, err = s.bond(s.life, a.Flow, opened.Flow)
		}
		if err == nil {
			err = stream.Keep(bond, opened)
		}
		switch {
		case err == nil:
			on.hold(s.life, stream, opened, s.tell)
		case s.life.Err() != nil:
			stream.GiveUp(errClosed)
		case !closed(stream.Done()):
			s.tell("this connection will end with the network that it is on: the agent does not answer")
		}
	})
}

// How often an agent is asked for what makes a flow resumable.
const bondTries, bondPause = 5, 500 * time.Millisecond

// bond asks the agent what the connection of a carrier gives the flow on it.
func (s *Shared) bond(ctx context.Context, flow uint64, id []byte) (*frame.Bond, error) {
	places, err := s.home.agentPlaces()
	if err != nil {
		return nil, err
	}
	c, a, err := put(ctx, places.socket, question{Version: s.agent.Version, Ask: askBond, Flow: flow, ID: id})
	if err != nil {
		return nil, &frame.StreamError{Reason: errAgentEnded.Reason} // which is not the appliance's word
	}
	c.Close()
	switch {
	case a.Failure != nil:
		return nil, &failed{*a.Failure}
	case a.Bond == nil:
		return nil, frame.Refuse(frame.Lost, "the agent is another than the one that holds this flow", "try again")
	}
	return a.Bond.bond(), nil
}

// knownPath is how the agent reaches the appliance now.
func (s *Shared) knownPath(ctx context.Context) (*Path, error) {
	places, err := s.home.agentPlaces()
	if err != nil {
		return nil, err
	}
	c, a, err := put(ctx, places.socket, s.question(askPath))
	if err != nil {
		return nil, err
	}
	c.Close()
	if a.Path == nil {
		return nil, errNoAgent
	}
	return a.Path, nil
}

// Path implements Dialer.
func (s *Shared) Path(ctx context.Context) (*Path, error) {
	c, a, err := s.ask(ctx, s.question(askPath))
	if errors.Is(err, errNoAgent) {
		d, err := s.instead()
		if err != nil {
			return nil, err
		}
		return d.Path(ctx)
	}
	if err != nil {
		return nil, err
	}
	c.Close()
	return a.Path, nil
}

// Close implements Dialer. The agent's session stays.
func (s *Shared) Close() error {
	s.close()
	s.keepers.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range []*Direct{s.direct, s.beside} {
		if d != nil {
			d.Close()
		}
	}
	return nil
}

// instead is the Direct that does what no agent does.
func (s *Shared) instead() (d *Direct, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.direct == nil {
		s.direct, err = NewDirect(s.home, s.profile, s.opts)
	}
	return s.direct, err
}

// besides is the Direct of flows that have left the agent for a faster way.
func (s *Shared) besides() (d *Direct, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.beside == nil {
		s.beside, err = NewDirect(s.home, s.profile, s.opts)
	}
	return s.beside, err
}

func (s *Shared) question(what string) question {
	q := question{Version: s.agent.Version, Ask: what, Appliance: s.profile.Name, Transport: s.opts.Transport}
	if proxy, err := httpproxy.FromEnvironment().ProxyFunc()(&url.URL{Scheme: "https", Host: s.profile.Address}); err == nil && proxy != nil {
		q.Proxy = proxy.String()
	}
	return q
}

// AgentOf asks a Home's agent what it holds; nil if there is none.
func AgentOf(ctx context.Context, h Home) *AgentStatus { return askAgent(ctx, h, askStatus) }

// StopAgent lets a Home's agent take no new flows and end when those that it has do, or at once with all of them. It
// returns what the agent held; nil if there is none.
func StopAgent(ctx context.Context, h Home, atOnce bool) *AgentStatus {
	if atOnce {
		return askAgent(ctx, h, askEnd)
	}
	return askAgent(ctx, h, askStop)
}

func askAgent(ctx context.Context, h Home, what string) *AgentStatus {
	ctx, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	places, err := h.agentPlaces()
	if err != nil {
		return nil
	}
	c, a, err := put(ctx, places.socket, question{Ask: what})
	if err != nil {
		return nil
	}
	c.Close()
	return a.Status
}

// ask asks the agent for a path, and starts one if there is none.
func (s *Shared) ask(ctx context.Context, q question) (*net.UnixConn, *answer, error) {
	s.mu.Lock()
	direct := s.direct != nil
	s.mu.Unlock()
	places, err := s.home.agentPlaces()
	if err != nil || direct {
		return nil, nil, errNoAgent
	}
	for range 3 { // the agent may end, or be of another version, between two steps
		c, a, err := put(ctx, places.socket, q)
		switch {
		case errors.Is(err, errMute):
			return nil, nil, errNoAgent
		case errors.Is(err, errNoAgent):
			if err := s.start(ctx, places); err != nil {
				return nil, nil, err
			}
			continue
		case err != nil:
			return nil, nil, err
		case a.Version != s.agent.Version && !q.Lost.IsZero():
			c.Close()
			return nil, nil, errNoAgent // the flow of an old program is no reason to end the new one's agent
		case a.Version != s.agent.Version:
			c.Close()
			if c, _, err := put(ctx, places.socket, question{Version: s.agent.Version, Ask: askFinish}); err == nil {
				c.Close()
			}
			continue
		}
		for _, line := range a.Notices {
			s.tell(line)
		}
		if a.Failure != nil {
			c.Close()
			return nil, nil, &failed{*a.Failure}
		}
		return c, a, nil
	}
	return nil, nil, errNoAgent
}

// startPatience is how long a command waits for an agent that is being started, before it goes on without.
const startPatience = 3 * time.Second

// start starts the agent, unless another command does: then it waits for what comes of that.
func (s *Shared) start(ctx context.Context, places agentPlaces) error {
	if s.agent.Start == nil || places.open() != nil {
		return errNoAgent
	}
	patience, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	err := poll(patience, func() bool {
		lock, err := tryLock(places.starting)
		if lock == nil {
			return err != nil || answers(places.socket)
		}
		defer lock.Close()
		if answers(places.socket) {
			return true
		}
		if ended, err := s.agent.Start(); err == nil {
			poll(patience, func() bool { return answers(places.socket) || closed(ended) })
		}
		return true
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil || !answers(places.socket):
		return errNoAgent
	}
	return nil
}

// answers says that an agent listens.
func answers(socket string) bool {
	c, err := dialAgent(socket)
	if err == nil {
		c.Close()
	}
	return err == nil
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// poll asks done again and again until it says so or ctx ends.
func poll(ctx context.Context, done func() bool) error {
	for wait := time.Millisecond; !done(); wait = min(2*wait, 20*time.Millisecond) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// agentCarrier is a flow's place on a session of the agent's.
type agentCarrier struct {
	*net.UnixConn
	shared *Shared
	flow   uint64
	ended  atomic.Bool // our direction has: the peer hangs up in order
}

// CloseWrite implements frame.Carrier.
func (c *agentCarrier) CloseWrite() error {
	c.ended.Store(true)
	return c.UnixConn.CloseWrite()
}

// Read asks the agent why, when nothing more comes before the flow has ended.
func (c *agentCarrier) Read(p []byte) (int, error) {
	n, err := c.UnixConn.Read(p)
	if n == 0 && err != nil && !c.ended.Load() && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
		err = cmp.Or(c.shared.why(c.flow), err)
	}
	return n, err
}

// Write hides that the other end is the agent's.
func (c *agentCarrier) Write(p []byte) (int, error) {
	n, err := c.UnixConn.Write(p)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, net.ErrClosed) {
		err = cmp.Or(c.shared.why(c.flow), io.ErrUnexpectedEOF)
	}
	return n, err
}

// why is what the agent knows of a flow whose carrier has ended; nil if that is nothing.
func (s *Shared) why(flow uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	places, err := s.home.agentPlaces()
	if err != nil {
		return nil
	}
	c, a, err := put(ctx, places.socket, question{Version: s.agent.Version, Ask: askWhy, Flow: flow})
	if err != nil {
		return errAgentEnded
	}
	c.Close()
	if f := a.Failure; f != nil {
		return &frame.StreamError{Remote: true, Reason: frame.Reason{Code: f.Code, Sentence: f.Sentence, Hint: f.Hint}}
	}
	return nil
}
