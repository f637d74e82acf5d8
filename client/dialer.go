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
	Open(ctx context.Context, req frame.OpenRequest) (Flow, *frame.Opened, error)

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
}

// Direct is a Dialer with a transport session of its own, made at the first Open and again when it was lost.
type Direct struct {
	home    Home
	profile *Profile
	dial    *transport.Client
	notice  func(string)

	life  context.Context // until Close
	close context.CancelFunc

	identity sync.Mutex // guards profile.Identity

	lock    chan struct{} // holds a token while session is being used or made
	session *transport.Session
}

// NewDirect returns a Dialer for the appliance of a profile; it does not connect yet.
func NewDirect(h Home, p *Profile, o Options) (*Direct, error) {
	key, err := h.key(p.Name)
	if err != nil {
		return nil, err
	}
	d := newDirect(p, key, frame.Hello{User: p.User}, o)
	d.home = h
	d.dial.Check = d.check
	d.dial.Memory = h.memory()
	return d, nil
}

func newDirect(p *Profile, key frame.Signer, hello frame.Hello, o Options) *Direct {
	d := &Direct{profile: p, notice: o.Notice, lock: make(chan struct{}, 1)}
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
	if !slices.EqualFunc(pins, d.profile.Identity, bytes.Equal) {
		d.profile.Identity = pins
		if err := d.home.put(*d.profile, false); err != nil {
			d.tell("the appliance's next identity key was not kept: " + err.Error())
		}
	}
	return nil
}

// Open implements Dialer. A session that turns out to be dead is replaced once.
func (d *Direct) Open(ctx context.Context, req frame.OpenRequest) (Flow, *frame.Opened, error) {
	ctx, stop := d.whileOpen(ctx)
	defer stop()
	s, fresh, err := d.connect(ctx, nil)
	if err != nil {
		return nil, nil, err
	}
	stream, opened, err := s.Open(ctx, req)
	if err != nil && !fresh && ctx.Err() == nil && lostOnTheWay(err) {
		if s, _, err = d.connect(ctx, s); err != nil {
			return nil, nil, err
		}
		stream, opened, err = s.Open(ctx, req)
	}
	switch {
	case err == nil:
		d.tell(opened.Notice)
		return stream, opened, nil
	case ctx.Err() != nil:
		return nil, nil, context.Cause(ctx)
	}
	return nil, nil, d.reason(ctx, err)
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
		return nil, false, d.profile.Trust.explain(ctx, d.profile.Address, err)
	}
	d.session = s
	d.tell(s.Welcome.Notice)
	return s, true, nil
}

// Close ends the session and, over QUIC, all its flows.
func (d *Direct) Close() error {
	d.close()
	d.lock <- struct{}{}
	defer func() { <-d.lock }()
	d.drop()
	return nil
}

// drop lets go of the session, if there is one. The caller holds the lock.
func (d *Direct) drop() {
	if d.session != nil {
		d.session.Close()
		d.session = nil
	}
}
