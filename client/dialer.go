package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpproxy"

	"sallyport/frame"
	"sallyport/relay"
	"sallyport/transport"
)

// A Flow is one open connection to a target. A *frame.Stream is one.
type Flow interface {
	net.Conn
	relay.Stream

	// Reset ends the flow, tells the appliance why, and returns when it knows or cannot be told.
	Reset(frame.Reason)
}

// A Dialer is how a command gets flows. Its methods may be called by many goroutines.
type Dialer interface {
	// Open asks for a flow. What first has to say does not wait for the answer; first may be nil.
	Open(ctx context.Context, req frame.OpenRequest, first *First) (Flow, *frame.Opened, error)

	// Path says how the appliance is reached; it connects if nothing has yet.
	Path(ctx context.Context) (*Path, error)

	Close() error
}

// A Path is how an appliance is reached.
type Path struct {
	Transport string        `json:"transport"`
	Remote    string        `json:"remote"`             // of the appliance, or of its proxy
	Tried     []string      `json:"tried,omitempty"`    // what did not lead there
	Took      time.Duration `json:"took_ns"`            // to connect
	Since     time.Time     `json:"since"`              // when that was
	Agent     int           `json:"agent_pid,omitzero"` // of the agent that holds the session, if one does
}

// Options of a Direct. The zero value is good.
type Options struct {
	Transport transport.Mode // default Auto
	Software  string         // what the client says it is; default "sallyport OS/ARCH"
	Notice    func(string)   // receives lines for the person; may be nil

	// KeepTransport leaves a flow that moves much on QUIC, even where HTTPS is faster.
	KeepTransport bool

	// Spares is how many admitted HTTPS connections are kept for the next flows, after the first one.
	Spares int
}

// Spares is a good number of them for a process that opens flows time and again.
const Spares = 2

// movesBulk says whether a flow that moves much may leave QUIC for HTTPS.
func (o Options) movesBulk() bool {
	return cmp.Or(o.Transport, transport.Auto) == transport.Auto && !o.KeepTransport
}

// Direct is a Dialer with a transport session of its own, made at the first Open and again when it was lost.
type Direct struct {
	home    Home
	profile *Profile
	dial    *transport.Client
	notice  func(string)

	movesBulk bool // as Options say

	life  context.Context // until Close
	close context.CancelFunc

	identity sync.Mutex // guards profile.Identity

	lock    chan struct{} // holds a token while session is being used or made
	session *transport.Session

	uses    sync.Mutex
	latest  *transport.Session         // is session
	flows   map[*transport.Session]int // kept ones, by the session that they are on
	kept    map[*frame.Stream]bool
	keepers sync.WaitGroup
	scouts  atomic.Bool // somebody looks for a way back to QUIC
}

// NewDirect returns a Dialer for the appliance of a profile; it does not connect yet.
func NewDirect(h Home, p *Profile, o Options) (*Direct, error) {
	key, err := h.key(p)
	if err != nil {
		return nil, err
	}
	d := newDirect(p, key, frame.Hello{User: p.User}, o)
	d.home = h
	d.dial.Check = d.check
	d.dial.Memory = h.memory()
	d.dial.Token = func() []byte { return h.token(p.Name) }
	return d, nil
}

func newDirect(p *Profile, key frame.Signer, hello frame.Hello, o Options) *Direct {
	d := &Direct{profile: p, notice: o.Notice, movesBulk: o.movesBulk(), lock: make(chan struct{}, 1)}
	d.life, d.close = context.WithCancel(context.Background())
	if d.notice == nil {
		d.notice = func(string) {}
	}
	hello.Software = cmp.Or(o.Software, "sallyport") + " " + runtime.GOOS + "/" + runtime.GOARCH
	d.dial = &transport.Client{
		Address: p.Address,
		TLS:     p.Trust.config(p.Address),
		Mode:    o.Transport,
		Signer:  key,
		Hello:   hello,
		Proxy:   httpproxy.FromEnvironment().ProxyFunc(),
		Flow:    telling(d.tell),
		Spares:  o.Spares,
	}
	d.dial.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(8) // for HTTPS, where each flow is a connection
	return d
}

// telling are the options of a flow whose lines for the person go to tell.
func telling(tell func(string)) frame.Options {
	return frame.Options{
		Notice: func(n frame.Notice) { tell(n.Text) },
		Drain:  func(n frame.Drain) { tell(cmp.Or(n.Text, "the appliance is about to stop")) },
	}
}

func (d *Direct) tell(text string) {
	if text = frame.Clip(text, 600); text != "" {
		d.notice(text)
	}
}

// check makes sure that a WELCOME comes from the appliance that this device logged in to. Successors that a pinned
// key names are pinned too. When one of them signs, its keys replace those that were pinned: the key before it is good
// no more.
func (d *Direct) check(w *frame.Welcome) error {
	d.identity.Lock()
	defer d.identity.Unlock()
	known := func(key []byte) bool {
		return slices.ContainsFunc(d.profile.Identity, func(k []byte) bool { return bytes.Equal(k, key) })
	}
	if !known(w.Identity[0]) {
		return certificateError(fmt.Sprintf("%s is not the appliance that this device logged in to: it has another identity key", d.profile.Address),
			"ask the appliance's administrator; if it was set up anew, log out with --local and log in again")
	}
	pins := slices.Clone(w.Identity)
	if bytes.Equal(w.Identity[0], d.profile.Identity[0]) {
		pins = slices.Clone(d.profile.Identity)
		for _, k := range w.Identity[1:] {
			if !known(k) {
				pins = append(pins, k)
			}
		}
	}
	if len(w.Token) > 0 {
		d.home.keepToken(d.profile.Name, w.Token)
	}
	if !slices.EqualFunc(pins, d.profile.Identity, bytes.Equal) {
		d.profile.Identity = pins
		if err := d.home.put(*d.profile, false); err != nil {
			d.tell("the appliance's next identity key was not kept: " + err.Error())
		}
	}
	return nil
}

// Open implements Dialer. A session that turns out to be dead is replaced once.
func (d *Direct) Open(ctx context.Context, req frame.OpenRequest, first *First) (Flow, *frame.Opened, error) {
	ctx, stop := d.whileOpen(ctx)
	defer stop()
	req = d.home.withGrant(d.profile.Name, req)
	s, fresh, err := d.connect(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	stream, opened, err := s.Open(ctx, req, first.early())
	if err != nil && !fresh && ctx.Err() == nil && lostOnTheWay(err) && first.mayRepeat(req.Protocol) {
		if s, _, err = d.connect(ctx, s); err != nil {
			return nil, nil, err
		}
		stream, opened, err = s.Open(ctx, req, first.early())
	}
	switch {
	case err == nil:
		d.tell(opened.Notice)
		d.keep(s, stream, opened)
		d.home.keepGrant(d.profile.Name, req, opened, time.Now())
		return stream, opened, nil
	case ctx.Err() != nil:
		return nil, nil, context.Cause(ctx)
	}
	return nil, nil, d.reason(ctx, err)
}

// keep holds a flow up that the appliance keeps when its connection is lost.
func (d *Direct) keep(s *transport.Session, stream *frame.Stream, opened *frame.Opened) {
	if opened.Grace == 0 {
		return
	}
	d.use(s)
	d.uses.Lock()
	if d.kept == nil {
		d.kept = map[*frame.Stream]bool{}
	}
	d.kept[stream] = true
	d.uses.Unlock()
	on := &seat{direct: d, session: s}
	d.keepers.Go(func() {
		on.hold(d.life, stream, opened, d.tell)
		d.uses.Lock()
		defer d.uses.Unlock()
		delete(d.kept, stream)
	})
}

// use counts a flow on a session, which release ends. A session that is in use no more is closed when its last flow has
// left it.
func (d *Direct) use(s *transport.Session) {
	d.uses.Lock()
	defer d.uses.Unlock()
	if d.flows == nil {
		d.flows = map[*transport.Session]int{}
	}
	d.flows[s]++
}

func (d *Direct) release(s *transport.Session) {
	d.uses.Lock()
	d.flows[s]--
	last := d.flows[s] == 0
	if last {
		delete(d.flows, s)
	}
	current := d.latest == s
	d.uses.Unlock()
	if last && !current {
		s.Close()
	}
}

// setSession makes s the session for new flows; nil: there is none. The caller holds the lock.
func (d *Direct) setSession(s *transport.Session) {
	d.session = s
	d.uses.Lock()
	defer d.uses.Unlock()
	d.latest = s
}

// onQUIC says whether new flows go to QUIC now.
func (d *Direct) onQUIC() bool {
	d.uses.Lock()
	defer d.uses.Unlock()
	return d.latest != nil && d.latest.Transport == "quic" && !closed(d.latest.Done())
}

// reason is err, of a connection that stood, with a code and a sentence.
func (d *Direct) reason(ctx context.Context, err error) error {
	if _, ok := frame.ReasonOf(err); !ok {
		err = d.profile.Trust.explain(ctx, d.profile.Address, err)
	}
	if _, ok := frame.ReasonOf(err); !ok {
		err = frame.Refuse(frame.Lost, fmt.Sprintf("the connection to %s was lost: %v", d.profile.Address, err), "try again")
	}
	return err
}

// whileOpen is a context that ends with ctx or at Close, whichever is first: who asked may have gone, and net/http goes
// on dialling all the same.
func (d *Direct) whileOpen(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(d.life, func() { cancel(context.Canceled) })
	return ctx, func() {
		unhook()
		cancel(nil)
	}
}

// lostOnTheWay says that the appliance has not answered: the connection broke first.
func lostOnTheWay(err error) bool {
	r, ok := frame.ReasonOf(err)
	return !ok || r.Code == frame.Lost
}

// Session returns the transport session, which it makes if there is none.
func (d *Direct) Session(ctx context.Context) (*transport.Session, error) {
	ctx, stop := d.whileOpen(ctx)
	defer stop()
	s, _, err := d.connect(ctx, nil)
	return s, err
}

// Path implements Dialer.
func (d *Direct) Path(ctx context.Context) (*Path, error) {
	s, err := d.Session(ctx)
	if err != nil {
		return nil, err
	}
	return pathOf(s), nil
}

func pathOf(s *transport.Session) *Path {
	p := &Path{Transport: s.Transport, Remote: s.Remote.String(), Since: s.Since}
	for _, a := range s.Attempts {
		if p.Took = a.Took; a.Err != nil {
			p.Tried = append(p.Tried, fmt.Sprintf("%s: %v", a.Transport, a.Err))
		}
	}
	return p
}

// connect returns a session other than the dead one, and whether this call has made it.
func (d *Direct) connect(ctx context.Context, dead *transport.Session) (s *transport.Session, fresh bool, err error) {
	select {
	case d.lock <- struct{}{}:
		defer func() { <-d.lock }()
	case <-ctx.Done():
		return nil, false, context.Cause(ctx)
	}
	if d.session != nil && d.session != dead {
		select {
		case <-d.session.Done():
		default:
			if !d.dial.Stale(d.session) {
				return d.session, false, nil
			}
		}
	}
	d.drop()
	s, err = d.dial.Dial(ctx)
	if err != nil {
		if r, _ := frame.ReasonOf(err); r.Code == frame.Auth {
			d.home.dropToken(d.profile.Name) // which may be of another device, and the next connection needs none
		}
		return nil, false, d.profile.Trust.explain(ctx, d.profile.Address, err)
	}
	d.setSession(s)
	d.tell(s.Welcome.Notice)
	return s, true, nil
}

// Close ends the session and, over QUIC, all its flows. Those that were closed before get a moment for their last words.
func (d *Direct) Close() error {
	d.uses.Lock()
	var closing []*frame.Stream
	for s := range d.kept {
		if s.Vitals().Closed {
			closing = append(closing, s)
		}
	}
	d.uses.Unlock()
	moment, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	for _, s := range closing {
		select {
		case <-s.Done():
		case <-moment.Done():
		}
	}
	d.uses.Lock()
	d.close()
	d.uses.Unlock()
	d.keepers.Wait() // they let go of the sessions that others have taken the place of
	d.lock <- struct{}{}
	defer func() { <-d.lock }()
	d.drop()
	return nil
}

// drop lets go of the session, if there is one; kept flows may still be on it. The caller holds the lock.
func (d *Direct) drop() {
	s := d.session
	if s == nil {
		return
	}
	d.setSession(nil)
	d.uses.Lock()
	inUse := d.flows[s] > 0
	d.uses.Unlock()
	if !inUse || s.Transport == "https" { // whose flows have connections of their own
		s.Close()
	}
}
