package transport

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/time/rate"

	"sallyport/frame"
)

// quicConfig is common to both ends. The number of streams cannot grow later, and every unread stream costs memory, so
// it is what a busy person's flows need and no more.
func quicConfig() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           loginTimeout,
		MaxIdleTimeout:                 30 * time.Second,
		InitialStreamReceiveWindow:     32 << 10,
		InitialConnectionReceiveWindow: 64 << 10,
		MaxStreamReceiveWindow:         16 << 20,
		MaxConnectionReceiveWindow:     32 << 20,
		MaxIncomingStreams:             320,
		MaxIncomingUniStreams:          -1,
	}
}

// strangerConfig is a server's. Before a client has proved who it is, what it sends pins no more than the initial
// windows, which hold a HELLO and some: bytes that come one by one cost the library a hundred times themselves.
// Auto-tuning grows the windows of those who are admitted.
func strangerConfig(login time.Duration) *quic.Config {
	c := quicConfig()
	c.HandshakeIdleTimeout = login / 2 // a handshake may take twice as long
	c.AllowConnectionWindowIncrease = func(conn *quic.Conn, _ uint64) bool {
		v, ok := conn.Context().Value(visitKey{}).(*visit)
		return ok && v.admitted.Load()
	}
	return c
}

// A udpSocket is a kernel's, or one that adds something to it.
type udpSocket interface {
	quic.OOBCapablePacketConn
	net.Conn
	SetWriteBuffer(bytes int) error
}

// A visit is what is known of a connection from its first packet on.
type visit struct {
	leave    func() // it is a stranger no more
	admitted atomic.Bool
}

type visitKey struct{}

// Application error codes on the wire: none of them carries the reason, which is a REFUSED frame's business.
const (
	quicClosed  quic.ApplicationErrorCode = 0
	quicRefused quic.ApplicationErrorCode = 1
)

// errBusy turns a stranger away; it does not hear why.
var errBusy = errors.New("too many strangers")

// retryRate is how many connections a second may begin without the source address having been validated by Retry,
// which costs its owner a round trip and a spoofer everything (RFC 9000 §8.1.2).
const retryRate, retryBurst = 64, 128

// ServeQUIC serves clients on pc until ctx ends.
func (s *Server) ServeQUIC(ctx context.Context, pc net.PacketConn) error {
	calm := rate.NewLimiter(retryRate, retryBurst)
	if udp, ok := pc.(udpSocket); ok {
		pc = aggregate(udp)
		defer separate(udp) // whoever serves this socket next may not know
	}
	reset, err := s.resetKey()
	if err != nil {
		return err
	}
	t := &quic.Transport{
		Conn: pc, StatelessResetKey: reset,
		VerifySourceAddress: func(net.Addr) bool { return !calm.Allow() },
		// Half a handshake costs more than a connection: it is counted from its first packet.
		ConnContext: func(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
			leave, ok := s.wait(addrPort(info.RemoteAddr).Addr())
			if !ok {
				return nil, errBusy
			}
			context.AfterFunc(ctx, leave)
			return context.WithValue(ctx, visitKey{}, &visit{leave: leave}), nil
		},
	}
	defer t.Close()
	l, err := t.Listen(s.tlsConfig(alpnQUIC), strangerConfig(s.login()))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		c, err := l.Accept(ctx)
		if err != nil {
			return ended(ctx, err)
		}
		wg.Go(func() { s.quicConn(ctx, pc, c) })
	}
}

// resetKey lets an appliance that was started again tell clients of its former life, at their next packet that is large
// enough, that their connections are gone (RFC 9000 §10.3). It follows from the identity, as nothing else stays.
func (s *Server) resetKey() (*quic.StatelessResetKey, error) {
	secret, err := s.Identity.Sign([]byte("sallyport/1 stateless reset\x00"))
	if err != nil {
		return nil, fmt.Errorf("derive the key of stateless resets: %w", err)
	}
	key := quic.StatelessResetKey(sha256.Sum256(secret))
	return &key, nil
}

// quicConn serves one connection: HELLO on the control stream first, then every stream is a flow.
func (s *Server) quicConn(ctx context.Context, pc net.PacketConn, c *quic.Conn) {
	defer contain()
	visit := c.Context().Value(visitKey{}).(*visit)
	defer visit.leave()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(c.Context(), func() {
		cancel(frame.Refuse(frame.Lost, fmt.Sprintf("the connection ended: %v", context.Cause(c.Context())), ""))
	})
	defer stop()
	defer c.CloseWithError(quicClosed, "")

	peer := &frame.Peer{Transport: "quic", Remote: addrPort(c.RemoteAddr())}
	control, err := s.quicLogin(ctx, c, peer, func(p *frame.Peer) error { return s.door.enter(ctx, p, cancel) })
	if err != nil {
		return
	}
	visit.admitted.Store(true)
	visit.leave()
	defer follow(pc, c)()

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	admitted := *peer // a renewal may change only what Software says
	wg.Go(func() {
		s.quicControl(ctx, c, control, peer)
		cancel(nil)
	})
	for {
		st, err := c.AcceptStream(ctx)
		if err != nil {
			control.CancelRead(0)
			return
		}
		wg.Add(1) // until it is closed
		go s.Handler.Flow(ctx, &quicCarrier{Stream: st, over: sync.OnceFunc(wg.Done)}, admitted)
	}
}

// quicLogin reads HELLO from the first stream and answers it.
func (s *Server) quicLogin(ctx context.Context, c *quic.Conn, peer *frame.Peer, enter func(*frame.Peer) error) (*quic.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, s.login())
	defer cancel()
	control, err := c.AcceptStream(ctx)
	if err != nil {
		return nil, err
	}
	state := c.ConnectionState().TLS
	ch, err := s.channel(&state)
	if err != nil {
		return nil, err
	}
	control.SetDeadline(time.Now().Add(s.login()))
	greeter := s.greeter(c.Context(), peer, enter)
	if _, _, err := greeter.Greet(control, ch); err != nil {
		s.breach(*peer, err)
		// The client reads why, and hangs up; closing now could overtake the reason.
		control.Close()
		select {
		case <-c.Context().Done():
		case <-ctx.Done():
		}
		c.CloseWithError(quicRefused, "")
		return nil, err
	}
	peer.Bond = greeter.Bond
	return control, control.SetDeadline(time.Time{})
}

// quicControl answers PING and renews HELLO until the client ends the control stream or says something else.
func (s *Server) quicControl(ctx context.Context, c *quic.Conn, control *quic.Stream, peer *frame.Peer) {
	for {
		h, p, err := frame.ReadFrame(control)
		if err != nil {
			s.breach(*peer, err)
			return
		}
		switch h.Type {
		case frame.TypePing:
			control.SetWriteDeadline(time.Now().Add(s.login()))
			if _, err := control.Write(frame.AppendProbe(nil, frame.TypePong, [8]byte(p))); err != nil {
				return
			}
		case frame.TypePong:
		case frame.TypeHello:
			if err := s.renew(ctx, c, control, h, p, peer); err != nil {
				s.breach(*peer, err)
				return
			}
		default:
			s.breach(*peer, &frame.SessionError{Reason: frame.Reason{Code: frame.FrameType,
				Sentence: fmt.Sprintf("a %v frame does not belong on the control stream", h.Type)}})
			return
		}
	}
}

// renew answers a HELLO that was read already.
func (s *Server) renew(ctx context.Context, c *quic.Conn, control *quic.Stream, h frame.Header, p []byte, peer *frame.Peer) error {
	state := c.ConnectionState().TLS
	ch, err := s.channel(&state)
	if err != nil {
		return err
	}
	control.SetDeadline(time.Now().Add(s.login()))
	again := readWriter{io.MultiReader(&replay{append(h.Append(nil), p...)}, control), control}
	if _, _, err := s.greeter(ctx, peer, nil).Greet(again, ch); err != nil {
		return err
	}
	return control.SetDeadline(time.Time{})
}

type readWriter struct {
	io.Reader
	io.Writer
}

// replay gives back bytes that were read already.
type replay struct{ b []byte }

func (r *replay) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// A flow shows by its writes whether it moves much. While it does, its stream comes after the others of the connection:
// a keystroke beside four files each way at 5 Mbit/s takes 118 ms instead of 149. What moves much for longer cannot be
// written in small pieces, because it waits and is then written together; so nobody starves.
const (
	bulkWrite = 16 << 10 // from here on it does
	fewBytes  = 2 << 10  // up to here it does not; between them it is as before

	usual = 3 // of the urgencies that RFC 9218 has, every stream's until something else is said
	later = 4
)

// quicCarrier is a flow's stream.
type quicCarrier struct {
	*quic.Stream
	bulk   bool        // it comes after the others
	bond   *frame.Bond // the client's
	closed atomic.Bool // our direction was ended in order
	over   func()      // is told when it is closed; the appliance's
}

func (q *quicCarrier) Write(p []byte) (int, error) {
	switch {
	case !q.bulk && len(p) >= bulkWrite:
		q.bulk = true
		q.SetPriority(later, true)
	case q.bulk && len(p) <= fewBytes:
		q.bulk = false
		q.SetPriority(usual, true)
	}
	return q.Stream.Write(p)
}

// CloseWrite ends our direction in order.
func (q *quicCarrier) CloseWrite() error {
	q.closed.Store(true)
	return q.Stream.Close()
}

// Close ends both directions at once; a direction that was ended in order is left to arrive.
func (q *quicCarrier) Close() error {
	q.CancelRead(0)
	if !q.closed.Load() {
		q.CancelWrite(0)
	}
	if q.over != nil {
		q.over()
	}
	return nil
}

// shakeQUIC makes a QUIC connection; end closes it and its socket.
func shakeQUIC(ctx context.Context, address *net.UDPAddr, tlsConfig *tls.Config) (_ *quic.Conn, end func(), err error) {
	network := "udp4"
	if address.IP.To4() == nil {
		network = "udp6"
	}
	udp, err := net.ListenUDP(network, nil)
	if err != nil {
		return nil, nil, err
	}
	pc := &steadySocket{UDPConn: udp}
	t := &quic.Transport{Conn: aggregate(pc)}
	hangUp := func() {
		t.Close()
		pc.Close()
	}
	config := quicConfig()
	config.KeepAlivePeriod = 10 * time.Second
	config.MaxIncomingStreams = -1
	config.InitialStreamReceiveWindow, config.InitialConnectionReceiveWindow = 512<<10, 1<<20
	conn, err := t.Dial(ctx, address, tlsConfig, config)
	if err != nil {
		hangUp()
		return nil, nil, err
	}
	pc.stands.Store(true)
	follow(t.Conn, conn) // as long as there is the socket
	return conn, func() {
		conn.CloseWithError(quicClosed, "")
		hangUp()
	}, nil
}

// dialQUIC opens a session over QUIC.
func (c *Client) dialQUIC(ctx context.Context, address *net.UDPAddr) (*Session, error) {
	conn, end, err := shakeQUIC(ctx, address, c.tlsConfig(alpnQUIC))
	if err != nil {
		return nil, err
	}
	control, welcome, bond, err := c.quicHello(ctx, conn)
	if err != nil {
		end()
		return nil, err
	}
	s := &Session{Welcome: welcome, Transport: "quic", Remote: addrPort(address), done: conn.Context().Done()}
	s.open = func(ctx context.Context) (frame.Carrier, error) {
		st, err := conn.OpenStreamSync(ctx)
		if err != nil {
			return nil, err
		}
		return &quicCarrier{Stream: st, bond: bond}, nil
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		c.readControl(control)
		conn.CloseWithError(quicClosed, "")
	})
	s.close = func() {
		end()
		wg.Wait()
	}
	return s, nil
}

// quicHello introduces the client on the control stream.
func (c *Client) quicHello(ctx context.Context, conn *quic.Conn) (*quic.Stream, *frame.Welcome, *frame.Bond, error) {
	state := conn.ConnectionState().TLS
	ch, err := channelOf(&state)
	if err != nil {
		return nil, nil, nil, err
	}
	in, hello, err := frame.Introduce(c.hello(), c.Signer, ch)
	if err != nil {
		return nil, nil, nil, err
	}
	control, err := conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { control.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	control.SetDeadline(time.Now().Add(2 * loginTimeout))
	if _, err := control.Write(hello); err != nil {
		return nil, nil, nil, err
	}
	w, err := in.ReadWelcome(control)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, nil, nil, err
	}
	if err := c.accept(w); err != nil {
		return nil, nil, nil, err
	}
	return control, w, in.Bond(w.User), control.SetDeadline(time.Time{})
}

// readControl passes on what the appliance says on the control stream until it ends.
func (c *Client) readControl(control *quic.Stream) {
	for {
		h, p, err := frame.ReadFrame(control)
		if err != nil {
			return
		}
		switch h.Type {
		case frame.TypeNotice:
			var n frame.Notice
			if frame.Parse(h.Type, p, &n) == nil && c.Flow.Notice != nil {
				c.Flow.Notice(n)
			}
		case frame.TypeDrain:
			var d frame.Drain
			if frame.Parse(h.Type, p, &d) == nil && c.Flow.Drain != nil {
				c.Flow.Drain(d)
			}
		}
	}
}

// quicSilence says that nobody answered a QUIC handshake.
func quicSilence(err error) bool {
	var idle *quic.IdleTimeoutError
	var handshake *quic.HandshakeTimeoutError
	return errors.As(err, &idle) || errors.As(err, &handshake)
}

// quicCertificate finds the certificate error behind a failed QUIC handshake.
func quicCertificate(err error) error {
	var te *quic.TransportError
	var cert *tls.CertificateVerificationError
	if errors.As(err, &te) && errors.As(errors.Unwrap(te), &cert) {
		return cert
	}
	return err
}
