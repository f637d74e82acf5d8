package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"sallyport/frame"
	"sallyport/transport"
)

// An Agent holds transport sessions, and the use of the device keys, for all commands of one person. It ends when
// nobody has used it for Idle.
type Agent struct {
	Home    Home
	Version string        // of the program: commands of other versions ask for an agent of their own
	Idle    time.Duration // default 10 minutes
	Log     *slog.Logger  // default: nothing is logged

	memory *transport.Memory
	since  time.Time
	quit   context.CancelCauseFunc // ends everything
	conns  sync.WaitGroup          // the listener is closed before it is waited for

	mu       sync.Mutex
	listener net.Listener // nil once no new flows are taken
	lock     *os.File     // as long as there is a listener
	socket   string
	busy     int // questions and flows under way
	rest     *time.Timer
	sessions map[sessionKey]*held
	retired  map[*held]struct{} // taken out of sessions while they had flows
	flows    uint64             // numbers them
	numbered uint64             // numbers transport sessions
	broken   []brokenFlow
	bonds    map[uint64]func() *frame.Bond // of the carriers that there are, by flow
	awake    time.Time                     // when slept was asked last
}

// A sessionKey is what makes two commands share a session.
type sessionKey struct {
	appliance string
	mode      transport.Mode
	proxy     string
}

// A brokenFlow is one whose command may ask why.
type brokenFlow struct {
	flow uint64
	why  Failure
}

const (
	agentIdle   = 10 * time.Minute
	tendEvery   = 10 * time.Second // how soon a sign-out is noticed of which nobody told
	maxBroken   = 64
	askPatience = 5 * time.Second // for a question, once somebody has connected
)

// ErrAgentRuns is Run's error when the Home has an agent already.
var ErrAgentRuns = errors.New("an agent is running already")

// Run serves commands until ctx ends, nobody has come for Idle, or a command asks for the end.
func (a *Agent) Run(ctx context.Context) error {
	a.Idle = cmp.Or(a.Idle, agentIdle)
	a.Log = cmp.Or(a.Log, slog.New(slog.DiscardHandler))
	a.since, a.sessions, a.retired = time.Now(), map[sessionKey]*held{}, map[*held]struct{}{}
	a.bonds = map[uint64]func() *frame.Bond{}
	a.flows = uint64(rand.Uint32()) << 16 // another agent's numbers are others
	a.memory = a.Home.memory()
	ctx, a.quit = context.WithCancelCause(ctx)
	defer a.quit(nil)
	l, err := a.listen(ctx)
	if err != nil {
		return err
	}
	a.Log.Info("serving", "version", a.Version, "pid", os.Getpid())
	a.rest = time.AfterFunc(a.Idle, func() { a.finish("idle") })
	defer a.rest.Stop()
	stop := context.AfterFunc(ctx, func() { a.finish("stopped") })
	defer stop()
	var tending sync.WaitGroup
	tending.Go(func() { a.tend(ctx) })
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			break // by finish
		}
		if err != nil { // too many open files: others will be closed
			a.Log.Warn("accept", "cause", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		a.use(1)
		a.conns.Go(func() {
			defer a.use(-1)
			a.serve(ctx, c.(*net.UnixConn))
		})
	}
	a.conns.Wait()
	a.quit(nil)
	tending.Wait()
	a.mu.Lock()
	for key, h := range a.sessions {
		a.retire(key, h)
	}
	a.mu.Unlock()
	a.reap()
	a.Log.Info("ended")
	return nil
}

// listen takes the Home's socket, if no other agent has it.
func (a *Agent) listen(ctx context.Context) (net.Listener, error) {
	places, err := a.Home.agentPlaces()
	if err == nil {
		err = places.open()
	}
	if err != nil {
		return nil, err
	}
	// One that has the lock and does not answer is about to end.
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	poll(ctx, func() bool {
		a.lock, err = tryLock(places.lock)
		return a.lock != nil || err != nil || answers(places.socket)
	})
	if err != nil {
		return nil, err
	}
	if a.lock == nil {
		return nil, ErrAgentRuns
	}
	os.Remove(places.socket) // of an agent that was killed
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: places.socket, Net: "unix"})
	if err == nil {
		l.SetUnlinkOnClose(false) // finish does, while it has the lock
		if err = os.Chmod(places.socket, 0o600); err != nil {
			l.Close()
		}
	}
	if err != nil {
		a.lock.Close()
		return nil, err
	}
	a.listener, a.socket = l, places.socket
	return l, nil
}

// finish takes no new flows, makes room for another agent, and lets Run return when the flows have ended.
func (a *Agent) finish(why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.listener == nil || why == "idle" && a.busy > 0 {
		return
	}
	a.Log.Info("taking no new flows", "cause", why, "busy", a.busy)
	os.Remove(a.socket)
	a.listener.Close()
	a.lock.Close()
	a.listener, a.lock = nil, nil
}

// use counts what is under way, and begins to wait for the end when nothing is.
func (a *Agent) use(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.busy += n; a.busy == 0 {
		a.rest.Reset(a.Idle)
	} else {
		a.rest.Stop()
	}
}

// tend closes sessions whose sign-in is gone and those that nobody has used for long, and ends an agent whose Home is
// gone.
func (a *Agent) tend(ctx context.Context) {
	ticker := time.NewTicker(tendEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if _, err := os.Stat(a.Home.Dir()); errors.Is(err, fs.ErrNotExist) {
			a.quit(errors.New("the sign-in's folder is gone"))
			return
		}
		a.sweep(a.slept())
	}
}

// slept says that the computer has slept since somebody asked last.
func (a *Agent) slept() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now().Round(0) // by the wall, which goes on meanwhile
	was := a.awake
	a.awake = now
	return !was.IsZero() && now.Sub(was) > 3*tendEvery
}

// sweep takes out of use what should not be used any more. After a sleep an idle QUIC connection is probably dead and
// does not know it yet.
func (a *Agent) sweep(slept bool) {
	defer a.reap()
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, h := range a.sessions {
		_, stamp, err := a.Home.signIn(key.appliance)
		switch {
		case signedOut(err):
			a.retire(key, h)
			h.end("signed out of " + key.appliance)
		case err == nil && stamp != h.stamp, h.flows == 0 && (slept || time.Since(h.used) >= agentIdle):
			a.retire(key, h)
		}
	}
}

// retire takes a session out of use; reap closes it when its last flow has ended. The caller holds mu.
func (a *Agent) retire(key sessionKey, h *held) {
	delete(a.sessions, key)
	a.retired[h] = struct{}{}
}

// reap closes sessions that are out of use and have no flow.
func (a *Agent) reap() {
	a.mu.Lock()
	var done []*held
	for h := range a.retired {
		if h.flows == 0 {
			done = append(done, h)
			delete(a.retired, h)
		}
	}
	a.mu.Unlock()
	for _, h := range done {
		h.direct.Close()
	}
}

// serve answers one command.
func (a *Agent) serve(ctx context.Context, c *net.UnixConn) {
	defer c.Close()
	if err := checkUser(c); err != nil {
		a.Log.Warn("refused", "cause", err)
		return
	}
	c.SetDeadline(time.Now().Add(askPatience))
	var q question
	if err := readMessage(c, &q); err != nil {
		return
	}
	c.SetDeadline(time.Time{})
	reply := answer{Version: a.Version}
	switch q.Ask {
	case askStatus:
		reply.Status = a.status()
	case askFinish:
		if q.Version != a.Version {
			a.finish("another version")
		}
	case askStop, askEnd:
		reply.Status = a.status()
		a.finish("stopped")
		if q.Ask == askEnd {
			defer a.quit(nil)
		}
	case askWhy:
		reply.Failure = a.why(q.Flow)
	case askBond:
		var err error
		if reply.Bond, err = a.bond(q.Flow, q.ID); err != nil {
			f := Explain(err)
			reply.Failure = &f
		}
	case askFlow, askPath:
		if q.Version == a.Version {
			if writeMessage(c, answer{Version: a.Version, Wait: true}) == nil {
				a.connect(ctx, c, q)
			}
			return
		}
	default:
		reply.Failure = &Failure{Code: "E_USAGE", Sentence: fmt.Sprintf("the agent does not understand %q", frame.Clip(q.Ask, 32))}
	}
	writeMessage(c, reply)
}

func (a *Agent) status() *AgentStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &AgentStatus{Version: a.Version, PID: os.Getpid(), Since: a.since, Ending: a.listener == nil, Sessions: []AgentSession{}, Paths: a.memory.Wins()}
	add := func(h *held) {
		if p := h.path; p != nil {
			s.Flows += h.flows
			s.Sessions = append(s.Sessions, AgentSession{Appliance: h.profile.Name, Address: h.profile.Address, Transport: p.Transport,
				Remote: p.Remote, Since: p.Since, Flows: h.flows})
		}
	}
	for _, h := range a.sessions {
		add(h)
	}
	for h := range a.retired {
		add(h)
	}
	slices.SortFunc(s.Sessions, func(x, y AgentSession) int { return x.Since.Compare(y.Since) })
	return s
}

// why takes the reason that was kept for a flow whose carrier broke.
func (a *Agent) why(flow uint64) *Failure {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.broken, func(b brokenFlow) bool { return b.flow == flow })
	if i < 0 {
		return nil
	}
	f := a.broken[i].why
	a.broken = slices.Delete(a.broken, i, i+1)
	return &f
}

// keepWhy keeps the reason for a command that asks.
func (a *Agent) keepWhy(flow uint64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.broken = append(a.broken, brokenFlow{flow, Explain(err)})
	a.broken = a.broken[max(0, len(a.broken)-maxBroken):]
}
