package netstack

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"sallyport/netstack/link"
)

const servedPort = 7

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func prefixes(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range list {
		all = append(all, prefix(s))
	}
	return all
}

// newStack makes a stack that is closed with the test.
func newStack(t testing.TB, c Config) *Stack {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// near and far are the two ends of a network in memory; far serves servedPort.
func nearConfig(l link.Link) Config {
	return Config{Name: "near", Link: l, Addresses: prefixes("10.9.0.1/24", "fd09::1/64"), Prefixes: prefixes("10.9.0.0/24", "fd09::/64")}
}

func farConfig(l link.Link) Config {
	return Config{
		Name: "far", Link: l, Addresses: prefixes("10.9.0.2/24", "fd09::2/64"), Prefixes: prefixes("10.9.0.0/24", "fd09::/64"),
		Serve: []uint16{servedPort}, Unsolicited: Reset,
	}
}

func pair(t testing.TB) (near, far *Stack) {
	a, b := link.Pipe(link.PipeOptions{})
	return newStack(t, nearConfig(a)), newStack(t, farConfig(b))
}

func listen(t testing.TB, s *Stack) net.Listener {
	t.Helper()
	l, err := s.Listen(t.Context(), "tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// connect returns both ends of a connection.
func connect(t testing.TB, near *Stack, l net.Listener, address string) (dialled, accepted *Conn) {
	t.Helper()
	c, err := near.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return c.(*Conn), d.(*Conn)
}

func TestConn(t *testing.T) {
	near, far := pair(t)
	l := listen(t, far)
	for _, address := range []string{"10.9.0.2:7", "[fd09::2]:7"} {
		t.Run(address, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				c1, c2 = connect(t, near, l, address)
				return c1, c2, func() { c1.Close(); c2.Close() }, nil
			})
		})
	}
}

func TestHalfClose(t *testing.T) {
	near, far := pair(t)
	a, b := connect(t, near, listen(t, far), "10.9.0.2:7")
	go func() {
		all, _ := io.ReadAll(b)
		b.Write(append(all, " and pong"...))
		b.CloseWrite()
	}()
	io.WriteString(a, "ping")
	if err := a.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(a); string(got) != "ping and pong" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if n, err := a.Write([]byte("x")); n != 0 || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write after CloseWrite: %d, %v", n, err)
	}
}

// contract is what a relay asks of a connection; the relay has its own words for it.
type contract interface {
	WaitReadable(context.Context, func()) (bool, error)
	Read([]byte) (int, error)
	Buffered() int
	Take([]byte) (int, error)
	WaitWritable(context.Context) error
	CloseWrite() error
	CloseRead() error
	Close() error
}

var _, _ contract = (*Conn)(nil), (*memoryConn)(nil)

// TestCalledLater: who does not wait for long is called when there is something to read, or when the connection has ended.
func TestCalledLater(t *testing.T) {
	near, far := pair(t)
	l := listen(t, far)
	for name, happens := range map[string]func(a, b net.Conn){
		"bytes":  func(_, b net.Conn) { b.Write([]byte("x")) },
		"end":    func(_, b net.Conn) { b.Close() },
		"close":  func(a, _ net.Conn) { a.Close() },
		"failed": func(a, _ net.Conn) { a.(*Conn).fail(errors.New("the stack is gone")) },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := connect(t, near, l, "10.9.0.2:7")
			defer a.Close()
			defer b.Close()
			called := make(chan struct{}, 2)
			later := func() { called <- struct{}{} }
			begin := time.Now()
			if now, err := a.WaitReadable(t.Context(), later); now || err != nil || time.Since(begin) < patience {
				t.Fatalf("there is something to read, %v %v, after %v", now, err, time.Since(begin))
			}
			select {
			case <-called:
				t.Error("called for nothing")
			case <-time.After(20 * time.Millisecond):
			}
			happens(a, b)
			<-called
			if now, err := a.WaitReadable(t.Context(), later); !now || err != nil {
				t.Errorf("after that there is nothing to read: %v, %v", now, err)
			}
			if len(called) > 0 {
				t.Error("called twice")
			}
		})
	}
}

// TestRelayContract holds a Conn to what a relay asks of it: wait without a buffer, read without blocking, take
// without blocking.
func TestRelayContract(t *testing.T) {
	near, far := pair(t)
	a, b := connect(t, near, listen(t, far), "10.9.0.2:7")

	stop := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, stop)
	defer cancel()
	if _, err := a.WaitReadable(ctx, nil); err != stop {
		t.Errorf("nothing to read: %v", err)
	}
	if a.Buffered() != 0 {
		t.Errorf("%d bytes from nowhere", a.Buffered())
	}

	// Several writes arrive as several segments, and one Read gathers them.
	for range 5 {
		b.Write(make([]byte, 1000))
	}
	for a.Buffered() < 5000 {
		if _, err := a.WaitReadable(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	if n, err := a.Read(make([]byte, 4500)); n != 4500 || err != nil {
		t.Errorf("read %d, %v; want 4500 at once", n, err)
	}
	if n, err := a.Read(make([]byte, 4500)); n != 500 || err != nil {
		t.Errorf("read %d, %v; want the rest", n, err)
	}

	// Take until full, say so by 0 and nil, and be writable again when the peer has read.
	var sent int
	for {
		n, err := a.Take(make([]byte, 64<<10))
		if err != nil {
			t.Fatal(err)
		}
		sent += n
		if n == 0 {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			err := a.WaitWritable(ctx)
			cancel()
			if err != nil {
				break
			}
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if n, err := io.CopyN(io.Discard, b, int64(sent)); err != nil {
			t.Errorf("the peer read %d of %d: %v", n, sent, err)
		}
	})
	if err := a.WaitWritable(t.Context()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if n, err := a.Take([]byte("more")); n != 4 || err != nil {
		t.Errorf("take again: %d, %v", n, err)
	}

	// The end makes it readable.
	b.CloseWrite()
	if _, err := a.WaitReadable(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

func TestCloseWakesWaiters(t *testing.T) {
	near, far := pair(t)
	a, _ := connect(t, near, listen(t, far), "10.9.0.2:7")
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := a.WaitReadable(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read: %v", err)
		}
	})
	time.Sleep(10 * time.Millisecond)
	a.Close()
	wg.Wait()
	if _, err := a.Take([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("take: %v", err)
	}
}

// TestIdle counts: connections at rest have no goroutines.
func TestIdle(t *testing.T) {
	near, far := pair(t)
	l := listen(t, far)
	connect(t, near, l, "10.9.0.2:7")
	before := runtime.NumGoroutine()
	for range 200 {
		connect(t, near, l, "10.9.0.2:7")
	}
	if after := runtime.NumGoroutine(); after > before+2 { // a timer's function may be running
		t.Errorf("200 idle connections have %d goroutines", after-before)
	}
}

func TestReadDoesNotAllocate(t *testing.T) {
	near, far := pair(t)
	a, b := connect(t, near, listen(t, far), "10.9.0.2:7")
	const runs = 1000
	if _, err := b.Write(make([]byte, 64*(runs+1))); err != nil {
		t.Fatal(err)
	}
	for a.Buffered() < 64*(runs+1) {
		time.Sleep(time.Millisecond)
	}
	p := make([]byte, 64)
	ctx := t.Context()
	if n := testing.AllocsPerRun(runs, func() {
		if _, err := a.WaitReadable(ctx, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Read(p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for each read", n)
	}
}

func TestErrors(t *testing.T) {
	a, b := link.Pipe(link.PipeOptions{})
	c := nearConfig(a)
	c.Tuning.ConnectTimeout = 300 * time.Millisecond
	near := newStack(t, c)
	far := newStack(t, farConfig(b))
	l := listen(t, far)

	dial := func(ctx context.Context, address string) error {
		c, err := near.DialContext(ctx, "tcp", address)
		if err == nil {
			c.Close()
		}
		return err
	}
	t.Run("refused", func(t *testing.T) {
		for _, a := range []string{"10.9.0.2:81", "[fd09::2]:81"} {
			if err := dial(t.Context(), a); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: %v", a, err)
			}
		}
	})
	t.Run("silent", func(t *testing.T) { // before neighbour discovery gives up
		var ne net.Error
		if err := dial(t.Context(), "10.9.0.3:81"); !errors.Is(err, syscall.ETIMEDOUT) || !errors.As(err, &ne) || !ne.Timeout() {
			t.Error(err)
		}
	})
	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := dial(ctx, "10.9.0.3:81"); !errors.Is(err, context.DeadlineExceeded) { // the stack's own timeout is another
			t.Error(err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		c, d := connect(t, near, l, "10.9.0.2:7")
		d.Abort()
		for range 2 { // the second time too
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read: %v", err)
			}
			if _, err := c.Take([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("take: %v", err)
			}
		}
	})
	t.Run("reset, seen by the writer first", func(t *testing.T) {
		c, d := connect(t, near, l, "10.9.0.2:7")
		d.Abort()
		c.WaitReadable(t.Context(), nil)
		c.Take([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
	})
}

func TestUnreachable(t *testing.T) {
	a, b := link.Pipe(link.PipeOptions{})
	near := newStack(t, nearConfig(a)) // the default timeout leaves neighbour discovery its three seconds
	newStack(t, farConfig(b))
	for _, address := range []string{"10.9.0.3:81", "[fd09::3]:81"} {
		if _, err := near.DialContext(t.Context(), "tcp", address); !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func TestStackCloseEndsConnections(t *testing.T) {
	near, far := pair(t)
	l := listen(t, far)
	a, b := connect(t, near, l, "10.9.0.2:7")
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := a.Read(make([]byte, 1)); err == nil {
			t.Error("read from a closed stack")
		}
	})
	wg.Go(func() {
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("the peer: %v", err)
		}
	})
	time.Sleep(10 * time.Millisecond)
	near.Close()
	wg.Wait()
}

func TestNothingListensUnasked(t *testing.T) {
	near, _ := pair(t)
	if l, err := near.Listen(t.Context(), "tcp", ":22"); !errors.Is(err, syscall.EACCES) {
		t.Error(l, err)
	}
	if l, err := near.ListenPacket(t.Context(), "udp", ":22"); !errors.Is(err, syscall.EACCES) {
		t.Error(l, err)
	}
}

func TestUDP(t *testing.T) {
	near, far := pair(t)
	at, err := far.ListenPacket(t.Context(), "udp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	for _, address := range []string{"10.9.0.2:7", "[fd09::2]:7"} {
		c, err := near.DialContext(t.Context(), "udp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write([]byte("ping"))
		b := make([]byte, 100)
		n, from, err := at.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		at.WriteTo(append(b[:n], " pong"...), from)
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := c.Read(b); string(b[:n]) != "ping pong" || err != nil {
			t.Errorf("%s: %q, %v", address, b[:n], err)
		}
	}
}

func TestConfig(t *testing.T) {
	a, _ := link.Pipe(link.PipeOptions{})
	for what, c := range map[string]Config{
		"an address twice":     {Link: a, Addresses: prefixes("10.0.0.4/24", "10.0.0.4/24")},
		"no link":              {Addresses: prefixes("10.0.0.4/24")},
		"no address":           {Link: a},
		"gateway off the link": {Link: a, Addresses: prefixes("10.0.0.4/24"), Gateways: []netip.Addr{netip.MustParseAddr("10.0.1.1")}},
		"no gateway":           {Link: a, Addresses: prefixes("10.0.0.4/24"), Prefixes: prefixes("10.0.0.0/16")},
		"a drawn port":         {Link: a, Addresses: prefixes("10.0.0.4/24"), Serve: []uint16{20000}},
	} {
		if s, err := New(c); err == nil {
			s.Close()
			t.Errorf("%s: accepted", what)
		} else {
			t.Log(err)
		}
	}
}

// TestBalanced: a stack takes packets to a load balancer's address, which is on no link of its, and answers from it. What it
// dials itself comes from its own address.
func TestBalanced(t *testing.T) {
	balancer := netip.MustParseAddr("203.0.113.7")
	a, b := link.Pipe(link.PipeOptions{})
	nearC, farC := nearConfig(a), farConfig(b)
	nearC.Prefixes = append(nearC.Prefixes, prefix("203.0.113.0/24"))
	nearC.Gateways = []netip.Addr{netip.MustParseAddr("10.9.0.2")}
	nearC.Serve = []uint16{servedPort}
	farC.Balanced = balancer
	near, far := newStack(t, nearC), newStack(t, farC)

	dialled, accepted := connect(t, near, listen(t, far), "203.0.113.7:7")
	if got := accepted.LocalAddr().String(); got != "203.0.113.7:7" {
		t.Errorf("the connection is at %s", got)
	}
	go func() { io.Copy(accepted, accepted); accepted.CloseWrite() }()
	io.WriteString(dialled, "ping")
	dialled.CloseWrite()
	if got, err := io.ReadAll(dialled); string(got) != "ping" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}

	server, err := far.ListenPacket(t.Context(), "udp", "203.0.113.7:7")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := near.DialContext(t.Context(), "udp", "203.0.113.7:7")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	io.WriteString(client, "ping")
	p := make([]byte, 10)
	n, from, err := server.ReadFrom(p)
	if err != nil || string(p[:n]) != "ping" {
		t.Fatalf("%q, %v", p[:n], err)
	}
	if _, err := server.WriteTo([]byte("pong"), from); err != nil {
		t.Fatal(err)
	}
	client.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := client.Read(p); err != nil || string(p[:n]) != "pong" { // only from where it was sent to
		t.Errorf("%q, %v", p[:n], err)
	}

	back, gone := connect(t, far, listen(t, near), "10.9.0.1:7")
	if host, _, _ := net.SplitHostPort(gone.RemoteAddr().String()); host != "10.9.0.2" || back.LocalAddr().String() != gone.RemoteAddr().String() {
		t.Errorf("it dials from %s", gone.RemoteAddr())
	}
	if _, err := far.Fence().Choose([]netip.Addr{balancer}); err == nil {
		t.Error("flows reach the load balancer's address")
	}
}
