package transport

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"sallyport/frame"
)

// A browser has no TLS exporter and sees no certificate, and any page in it may try to open a WebSocket to us. So three
// things must hold, the first two before there is a WebSocket: it comes from our own pages, which browsers say in Origin; it
// brings the cookie of a browser that has signed in; and the key that HELLO proves is the one which that sign-in made.

const (
	socketPath = "/v1/ws"
	socketName = "websocket" // the transport's, in policies and logs

	// A message may have any part of frames and is read piece by piece. One that is longer was made by nobody's page.
	maxMessage = 1 << 20
)

// errOtherDevice is the answer to a HELLO by another key than the browser's that has signed in.
var errOtherDevice = &frame.SessionError{Reason: frame.Reason{Code: frame.Auth, Sentence: "this browser has signed in as another device", Hint: "sign in again"}}

// errNoCode is the answer to a HELLO that brings a code: a browser becomes a device when somebody signs in.
var errNoCode = &frame.SessionError{Reason: frame.Reason{Code: frame.Auth, Sentence: "codes are not taken here", Hint: "sign in on the appliance's page"}}

// fromOurPages says whether a browser says that a request comes from the appliance's own pages.
func (s *Server) fromOurPages(r *http.Request) bool {
	site := r.Header.Values("Sec-Fetch-Site")
	origin := r.Header.Values("Origin")
	return s.Origin != "" && len(origin) == 1 && origin[0] == s.Origin && (len(site) == 0 || len(site) == 1 && site[0] == "same-origin")
}

// upgrade makes a WebSocket of a browser's request, and says whose device the browser is; nil: it is not one of ours, and
// was told so.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) (c *socketCarrier, device string) {
	if !s.fromOurPages(r) {
		http.Error(w, "this path carries flows of the appliance's own pages", http.StatusForbidden)
		return nil, ""
	}
	device, err := s.Browser(r)
	if err != nil || device == "" {
		http.Error(w, "this browser has not signed in", http.StatusUnauthorized)
		return nil, ""
	}
	u := &upgrader{ResponseWriter: w, head: http.Header{}, patience: s.login()}
	// Its own look at Origin compares less than ours does.
	ws, err := websocket.Accept(u, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		if u.under != nil {
			u.under.Close()
		}
		return nil, ""
	}
	ws.SetReadLimit(maxMessage)
	return &socketCarrier{ws: ws, under: u.under, born: time.Now(), patience: cmp.Or(s.Silence, 15*time.Second)}, device
}

// An upgrader is what the WebSocket library upgrades by: it puts our own view of the connection under the WebSocket, and
// answers 101 itself, for net/http would close a connection that it keeps for one answer.
type upgrader struct {
	http.ResponseWriter
	head      http.Header
	switching bool
	patience  time.Duration
	under     *tlsCarrier
}

// Header implements http.ResponseWriter.
func (u *upgrader) Header() http.Header { return u.head }

// WriteHeader implements http.ResponseWriter.
func (u *upgrader) WriteHeader(status int) {
	if u.switching = status == http.StatusSwitchingProtocols; u.switching {
		return
	}
	for name, values := range u.head {
		u.ResponseWriter.Header()[name] = values
	}
	u.ResponseWriter.WriteHeader(status)
}

// Hijack implements http.Hijacker.
func (u *upgrader) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	hijacked, buffered, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	u.under = newTLSCarrier(hijacked, buffered)
	u.under.SetDeadline(time.Now().Add(u.patience))
	rw := bufio.NewReadWriter(bufio.NewReader(u.under), bufio.NewWriter(u.under))
	rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
	u.head.Write(rw)
	rw.WriteString("\r\n")
	return u.under, rw, rw.Flush()
}

// socketFlow serves a browser's WebSocket: HELLO, CHALLENGE, HELLO, WELCOME, then one flow.
func (s *Server) socketFlow(ctx context.Context, c *socketCarrier, device string) {
	defer contain()
	served := false
	defer func() {
		if !served {
			c.Close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { c.under.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	peer := &frame.Peer{Transport: socketName, Remote: addrPort(c.under.RemoteAddr())}
	ctx, cancel := context.WithCancelCause(ctx)
	left := c.over
	c.over = func() {
		cancel(nil)
		left()
	}
	greeter := s.greeter(ctx, peer, func(p *frame.Peer) error {
		if p.Device != device {
			return errOtherDevice
		}
		return s.door.enter(ctx, p, cancel)
	})
	admit := greeter.Admit
	greeter.Admit = func(h *frame.Hello) (*frame.Welcome, error) {
		if h.Code != "" {
			return nil, errNoCode
		}
		return admit(h)
	}
	if _, _, err := greeter.Greet(c, frame.Channel{Blind: true, ServerKeys: s.shown.all()}); err != nil {
		s.breach(*peer, err)
		// What the browser sent meanwhile is read, or closing would destroy the reason on its way.
		c.CloseWrite()
		io.Copy(io.Discard, io.LimitReader(c, 64<<10))
		return
	}
	c.under.below.Conn.(*countedConn).leave()
	if !stop() || c.under.SetDeadline(time.Time{}) != nil {
		return
	}
	c.under.below.park()
	c.watch()
	peer.Bond = greeter.Bond
	served = true
	s.Handler.Flow(ctx, c, *peer)
}

// A socketCarrier is a flow's WebSocket, one binary message for each call of Write. Deadlines are those of the connection
// below: the library itself would close on them, and a flow that is moved still says so on the carrier that it leaves.
type socketCarrier struct {
	ws    *websocket.Conn
	under *tlsCarrier
	over  func() // is told when it is closed

	message io.Reader // what is being read; nil between messages
	status  websocket.StatusCode
	waits   atomic.Int64 // since when Read does, in nanoseconds since born; 0: it does not
	born    time.Time

	patience time.Duration // with a browser from which nothing comes: it is asked, and gone after as long again

	mu      sync.Mutex // guards closed, and workers until then
	closed  bool
	done    chan struct{} // closed with it; nil: nobody watches
	workers sync.WaitGroup
}

// Read implements io.Reader. Where messages begin and end says nothing.
func (c *socketCarrier) Read(p []byte) (int, error) {
	for {
		if c.message == nil {
			c.waits.Store(max(1, int64(time.Since(c.born))))
			kind, r, err := c.ws.Reader(context.Background())
			c.waits.Store(0)
			switch {
			case err != nil:
				return 0, ended1000(err)
			case kind != websocket.MessageBinary:
				c.status = websocket.StatusUnsupportedData
				return 0, errText
			}
			c.message = r
		}
		n, err := c.message.Read(p)
		if err == io.EOF {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
	}
}

var errText = errors.New("a text message came, and flows have none")

// ended1000 is io.EOF for a WebSocket that the peer has closed in order, as far as WebSockets know of order.
func ended1000(err error) error {
	if websocket.CloseStatus(err) != -1 || errors.Is(err, net.ErrClosed) {
		return io.EOF
	}
	return err
}

// Write sends a message by one call of the connection below.
func (c *socketCarrier) Write(p []byte) (int, error) {
	c.under.below.hold()
	err := c.ws.Write(context.Background(), websocket.MessageBinary, p)
	if flushed := c.under.below.flush(); err == nil {
		err = flushed
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// CloseWrite says that nothing follows. A WebSocket has no half-close: what the peer still says is lost, so it comes only
// where that is of no use.
func (c *socketCarrier) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.workers.Go(func() { c.ws.Close(max(c.status, websocket.StatusNormalClosure), "") })
	return nil
}

// Close ends both directions at once.
func (c *socketCarrier) Close() error {
	c.mu.Lock()
	again := c.closed
	c.closed = true
	c.mu.Unlock()
	if again {
		return net.ErrClosed
	}
	if c.done != nil {
		close(c.done)
	}
	err := c.under.Close() // else the library would wait for the peer
	c.ws.CloseNow()
	c.workers.Wait()
	c.over()
	return err
}

// SetReadDeadline implements frame.Carrier.
func (c *socketCarrier) SetReadDeadline(t time.Time) error { return c.under.SetReadDeadline(t) }

// SetWriteDeadline implements frame.Carrier.
func (c *socketCarrier) SetWriteDeadline(t time.Time) error { return c.under.SetWriteDeadline(t) }

// watch begins to ask a browser from which nothing comes whether it is there. Its network stack answers, also for a page
// that sleeps.
func (c *socketCarrier) watch() {
	c.done = make(chan struct{})
	c.workers.Go(c.askAndAsk)
}

func (c *socketCarrier) askAndAsk() {
	ticker := time.NewTicker(c.patience)
	defer ticker.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-ticker.C:
		}
		// An answer is seen only by who reads: a flow that is being decided about does not.
		since := c.waits.Load()
		if since == 0 || time.Since(c.born)-time.Duration(since) < c.patience {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), c.patience)
		err := c.ws.Ping(ctx)
		cancel()
		if err != nil && c.waits.Load() == since {
			c.under.below.Conn.Close() // whoever reads or writes hears of it
			return
		}
	}
}
