package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"

	"sallyport/frame"
)

// ServeHTTPS serves clients on l until ctx ends.
func (s *Server) ServeHTTPS(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var flows sync.WaitGroup
	defer flows.Wait()
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+flowPath, func(w http.ResponseWriter, r *http.Request) {
		if c := takeOver(w, r); c != nil {
			// Not here: net/http's goroutine, with its buffers and its stack, would live as long as the flow.
			flows.Add(1) // until it is closed
			c.over = sync.OnceFunc(flows.Done)
			go s.httpsFlow(ctx, c)
		}
	})
	if s.Browser != nil {
		mux.HandleFunc("GET "+socketPath, func(w http.ResponseWriter, r *http.Request) {
			if c, device := s.upgrade(w, r); c != nil {
				flows.Add(1) // likewise
				c.over = sync.OnceFunc(flows.Done)
				go s.socketFlow(ctx, c, device)
			}
		})
	}
	if s.HTTP != nil {
		mux.Handle("/", s.HTTP)
	}
	server := &http.Server{
		Handler:        mux,
		ReadTimeout:    s.login(), // nobody sends a body here; who takes a connection over sets deadlines of its own
		WriteTimeout:   2 * s.login(),
		MaxHeaderBytes: 8 << 10,
		ConnContext:    func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connection{}, c) },
		ErrorLog:       log.New(io.Discard, "", 0), // strangers' handshake errors are not news
		TLSNextProto:   map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	server.SetKeepAlivesEnabled(false) // an answer that is no flow is the last one
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	all := join(s.behindBalancers(l), s.own.queue())
	flows.Go(all.listen)
	err := server.Serve(tls.NewListener(&countingListener{all, s}, s.tlsConfig(append([]string{alpnHTTPS}, s.Protocols...)...)))
	cancel()
	server.Close()
	return ended(ctx, err)
}

// connection is the key of a request's connection, in its context.
type connection struct{}

// Known says that who asks has proved who they are: their connection counts among strangers' no more, and is not closed when
// strangers' are, so that an answer may take as long as its own deadline allows.
func Known(r *http.Request) {
	c, ok := r.Context().Value(connection{}).(*tls.Conn)
	if !ok {
		return
	}
	if b, ok := c.NetConn().(*batch); ok {
		b.Conn.(*countedConn).leave()
	}
}

// countingListener turns away connections while too many have not said who they are.
type countingListener struct {
	net.Listener
	server *Server
}

func (l *countingListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if own, ok := c.(ownConn); ok {
			return &batch{Conn: &countedConn{Conn: own, server: l.server, leave: func() {}}}, nil
		}
		leave, ok := l.server.wait(sourceAt(c))
		if !ok {
			c.Close()
			continue
		}
		if t := tcpOf(c); t != nil {
			tune(t)
		}
		// Whatever a stranger does, it is known or gone by then.
		late := time.AfterFunc(3*l.server.login(), func() { c.Close() })
		return &batch{Conn: &countedConn{Conn: c, server: l.server, leave: func() { late.Stop(); leave() }}}, nil
	}
}

// sourceAt is where a connection comes from, as far as that is known without reading from it.
func sourceAt(c net.Conn) (from netip.Addr) {
	if _, ok := c.(*proxyproto.Conn); !ok {
		from = addrPort(c.RemoteAddr()).Addr()
	}
	return from
}

// keepAlive finds a client that went away without a word, within half a minute.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// tcpOf is the kernel's TCP connection that c is, perhaps behind a balancer's header; else nil.
func tcpOf(c net.Conn) *net.TCPConn {
	if p, ok := c.(*proxyproto.Conn); ok {
		c = p.Raw()
	}
	if b, ok := c.(*balanced); ok {
		c = b.Conn
	}
	t, _ := c.(*net.TCPConn)
	return t
}

type countedConn struct {
	net.Conn
	server *Server
	leave  func()
	head   []byte // the first bytes, while they may become a PROXY header
	begun  bool   // it is known whether they are one
}

func (c *countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if !c.begun {
		c.begun = c.begins(p[:n], err)
	}
	return n, err
}

func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// takeOver takes a connection over from net/http that asks to be one of ours; nil: it is none.
func takeOver(w http.ResponseWriter, r *http.Request) *tlsCarrier {
	if !strings.EqualFold(r.Header.Get("Upgrade"), upgradeToken) || r.ContentLength != 0 {
		w.Header().Set("Upgrade", upgradeToken)
		http.Error(w, "this path carries flows of the sallyport command", http.StatusUpgradeRequired)
		return nil
	}
	hijacked, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil
	}
	return newTLSCarrier(hijacked, buffered)
}

// newTLSCarrier is the carrier on a connection that was taken over from net/http.
func newTLSCarrier(hijacked net.Conn, buffered *bufio.ReadWriter) *tlsCarrier {
	conn := hijacked.(*tls.Conn)
	return &tlsCarrier{Conn: conn, below: conn.NetConn().(*batch), head: leftover(buffered.Reader)}
}

// httpsFlow serves a connection that was taken over: 101, HELLO, WELCOME, then one flow.
func (s *Server) httpsFlow(ctx context.Context, c *tlsCarrier) {
	defer contain()
	conn, counted := c.Conn, c.below.Conn.(*countedConn)
	served := false
	defer func() {
		if !served {
			c.Close()
		}
	}()
	conn.SetDeadline(time.Now().Add(s.login()))
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+upgradeToken+"\r\n\r\n"); err != nil {
		return
	}
	state := conn.ConnectionState()
	ch, err := s.channel(&state)
	if err != nil {
		return
	}
	peer := &frame.Peer{Transport: "https", Remote: addrPort(conn.RemoteAddr())}
	ctx, cancel := context.WithCancelCause(ctx)
	left := c.over
	c.over = func() {
		cancel(nil)
		left()
	}
	enter := func(p *frame.Peer) error { return s.door.enter(ctx, p, cancel) }
	greeter := s.greeter(ctx, peer, enter)
	if _, _, err := greeter.Greet(c, ch); err != nil {
		s.breach(*peer, err)
		// What the client sent meanwhile is read, or closing would destroy the reason on its way.
		conn.CloseWrite()
		io.Copy(io.Discard, io.LimitReader(conn, 64<<10))
		return
	}
	counted.leave()
	if !stop() || conn.SetDeadline(time.Time{}) != nil {
		return
	}
	c.below.park()
	peer.Bond = greeter.Bond
	served = true
	s.Handler.Flow(ctx, c, *peer)
}

// leftover takes what net/http has read ahead and lets its buffer go.
func leftover(r *bufio.Reader) []byte {
	if r.Buffered() == 0 {
		return nil
	}
	b, _ := r.Peek(r.Buffered())
	return append([]byte(nil), b...)
}

// tlsCarrier is a flow's connection.
type tlsCarrier struct {
	*tls.Conn
	below *batch
	head  []byte // read before the frames were, by net/http
	over  func() // is told when it is closed; the appliance's
}

func (c *tlsCarrier) Read(p []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(p, c.head)
		if c.head = c.head[n:]; len(c.head) == 0 {
			c.head = nil
		}
		return n, nil
	}
	return c.below.read(c.Conn, p)
}

// Write sends all records of p by one call.
func (c *tlsCarrier) Write(p []byte) (int, error) {
	if len(p) <= record {
		return c.Conn.Write(p)
	}
	c.below.hold()
	n, err := c.Conn.Write(p)
	if flushed := c.below.flush(); err == nil {
		err = flushed
	}
	return n, err
}

// Close ends both directions at once.
func (c *tlsCarrier) Close() error {
	// tls.Conn.Close waits five seconds to say goodbye to a peer that does not read.
	late := time.AfterFunc(100*time.Millisecond, func() { c.below.Conn.Close() })
	defer late.Stop()
	if c.over != nil {
		defer c.over()
	}
	return c.Conn.Close()
}

// dialHTTPS opens a session over HTTPS: its first connection, admitted, waits for the first flow.
func (c *Client) dialHTTPS(ctx context.Context) (*Session, error) {
	first, err := c.httpsConn(ctx)
	if err != nil {
		return nil, err
	}
	welcome, err := first.welcome(ctx)
	if err != nil {
		first.Close()
		return nil, err
	}
	p := newPool(c)
	p.add(first)
	s := &Session{Welcome: welcome, Transport: "https", Remote: addrPort(first.RemoteAddr()), done: make(chan struct{})}
	s.open, s.close = p.take, p.close
	return s, nil
}

// httpsConn connects, verifies the appliance and says HELLO; the answers are read with the first Read, so that what
// is written next leaves in the same flight.
func (c *Client) httpsConn(ctx context.Context) (*clientConn, error) {
	raw, err := c.dialTCP(ctx)
	if err != nil {
		return nil, err
	}
	if t := tcpOf(raw); t != nil {
		tune(t)
		impatient(t, 30*time.Second)
	}
	below := &batch{Conn: raw}
	conn := tls.Client(below, c.tlsConfig(alpnHTTPS))
	fail := func(err error) (*clientConn, error) {
		raw.Close()
		return nil, err
	}
	if err := conn.HandshakeContext(ctx); err != nil {
		return fail(err)
	}
	state := conn.ConnectionState()
	ch, err := channelOf(&state)
	if err != nil {
		return fail(err)
	}
	in, hello, err := frame.Introduce(c.hello(), c.Signer, ch)
	if err != nil {
		return fail(err)
	}
	request := "GET " + flowPath + " HTTP/1.1\r\nHost: " + c.Address + "\r\nConnection: Upgrade\r\nUpgrade: " + upgradeToken + "\r\n\r\n"
	conn.SetDeadline(time.Now().Add(2 * loginTimeout))
	if _, err := conn.Write(append([]byte(request), hello...)); err != nil {
		return fail(err)
	}
	return &clientConn{tlsCarrier: tlsCarrier{Conn: conn, below: below}, client: c, in: in}, nil
}

// A clientConn is a client's connection whose answers to request and HELLO are still to be read.
type clientConn struct {
	tlsCarrier
	client *Client
	in     *frame.Introduction        // nil when WELCOME has come
	bond   atomic.Pointer[frame.Bond] // from then on
}

// errNotAppliance is the error of a server that answers HTTPS but is no appliance.
var errNotAppliance = &frame.SessionError{Reason: frame.Reason{Code: "E_NO_PATH",
	Sentence: "what answers there speaks HTTPS but is no Sallyport appliance", Hint: "check the URL"}}

func (c *clientConn) Read(p []byte) (int, error) {
	if c.in != nil {
		if _, err := c.welcome(context.Background()); err != nil {
			return 0, err
		}
	}
	return c.tlsCarrier.Read(p)
}

// welcome reads 101 and WELCOME.
func (c *clientConn) welcome(ctx context.Context) (*frame.Welcome, error) {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	in := c.in
	c.in = nil
	r := bufio.NewReaderSize(c.Conn, 4<<10)
	resp, err := http.ReadResponse(r, nil)
	if err == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		err = errNotAppliance
	}
	if err != nil {
		return nil, cause(ctx, err)
	}
	c.head = leftover(r)
	w, err := in.ReadWelcome(&c.tlsCarrier)
	if err == nil {
		err = c.client.accept(w)
	}
	if err != nil {
		return nil, cause(ctx, err)
	}
	c.bond.Store(in.Bond(w.User))
	return w, c.SetDeadline(time.Time{})
}

// cause prefers the reason why ctx ended to the error that this brought about.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if timedOut(err) {
		return &frame.SessionError{Reason: frame.Reason{Code: "E_NO_PATH", Sentence: "the appliance did not answer in time"}}
	}
	return err
}
