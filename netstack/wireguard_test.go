package netstack

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"sallyport/netstack/link"
)

type keys struct{ private, public [32]byte }

func newKeys(t testing.TB) keys {
	t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return keys{[32]byte(k.Bytes()), [32]byte(k.PublicKey().Bytes())}
}

func loopbackUDP(t testing.TB) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadBuffer(4 << 20)
	return c
}

// slow hides a socket's type, so that one datagram passes a call.
type slow struct{ net.PacketConn }

// tunnelled are two stacks that meet in a tunnel; far does not know where near is.
func tunnelled(t testing.TB, wrap func(*net.UDPConn) net.PacketConn) (near, far *Stack) {
	a, b := loopbackUDP(t), loopbackUDP(t)
	return tunnel(t, wrap(a), wrap(b), b.LocalAddr().String(), link.WireGuardOptions{})
}

func tunnel(t testing.TB, a, b net.PacketConn, farAt string, o link.WireGuardOptions) (near, far *Stack) {
	t.Helper()
	ours, theirs := newKeys(t), newKeys(t)
	shared := [32]byte{1, 2, 3}
	o.PrivateKey = ours.private
	o.Peers = []link.WireGuardPeer{{PublicKey: theirs.public, PresharedKey: shared, Endpoint: farAt, Allowed: prefixes("10.9.0.2/32", "fd09::2/128")}}
	l, err := link.WireGuard(a, o)
	if err != nil {
		t.Fatal(err)
	}
	c := nearConfig(l)
	c.Addresses = prefixes("10.9.0.1/32", "fd09::1/128") // and no gateway: in a tunnel all is on its way
	near = newStack(t, c)
	l, err = link.WireGuard(b, link.WireGuardOptions{PrivateKey: theirs.private, Peers: []link.WireGuardPeer{
		{PublicKey: ours.public, PresharedKey: shared, Allowed: prefixes("10.9.0.1/32", "fd09::1/128")}}})
	if err != nil {
		t.Fatal(err)
	}
	c = farConfig(l)
	c.Addresses = prefixes("10.9.0.2/32", "fd09::2/128")
	return near, newStack(t, c)
}

func many(c *net.UDPConn) net.PacketConn { return c }
func one(c *net.UDPConn) net.PacketConn  { return slow{c} }

func TestWireGuardConn(t *testing.T) {
	near, far := tunnelled(t, many)
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

// bulkThrough sends size bytes each way and compares.
func bulkThrough(t *testing.T, a, b net.Conn, size int64) {
	t.Helper()
	for _, way := range []struct {
		name     string
		from, to net.Conn
	}{{"up", a, b}, {"down", b, a}} {
		begin := time.Now()
		sent, got := sha256.New(), sha256.New()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := io.CopyBuffer(io.MultiWriter(struct{ io.Writer }{way.from}, sent), io.LimitReader(mathrand.NewChaCha8([32]byte{3}), size), make([]byte, 64<<10)); err != nil {
				t.Error(err)
			}
		})
		if _, err := io.CopyN(got, way.to, size); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if string(sent.Sum(nil)) != string(got.Sum(nil)) {
			t.Errorf("%s: other bytes arrived than were sent", way.name)
		}
		t.Logf("%s: %.2f Gbit/s, hashing included", way.name, float64(size)*8/time.Since(begin).Seconds()/1e9)
	}
}

func TestWireGuardBulk(t *testing.T) {
	for name, wrap := range map[string]func(*net.UDPConn) net.PacketConn{"many a call": many, "one a call": one} {
		t.Run(name, func(t *testing.T) {
			near, far := tunnelled(t, wrap)
			l := listen(t, far)
			for address, size := range map[string]int64{"10.9.0.2:7": 64 << 20, "[fd09::2]:7": 8 << 20} {
				a, b := connect(t, near, l, address)
				bulkThrough(t, a, b, size)
			}
			for _, s := range []*Stack{near, far} {
				if st := s.Stats(); st.Escaped != 0 || st.Link.RxBytes < 72<<20 {
					t.Errorf("%+v", st)
				}
			}
		})
	}
}

// A mobile is a socket that can be exchanged for another while it is used.
type mobile struct {
	mu    sync.Mutex
	inner *net.UDPConn
	gone  bool
}

func (m *mobile) now() *net.UDPConn {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inner
}

func (m *mobile) move(t *testing.T) {
	t.Helper()
	next := loopbackUDP(t)
	m.mu.Lock()
	old := m.inner
	m.inner = next
	m.mu.Unlock()
	old.Close()
}

func (m *mobile) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		c := m.now()
		n, from, err := c.ReadFrom(p)
		m.mu.Lock()
		again := err != nil && c != m.inner && !m.gone
		m.mu.Unlock()
		if !again {
			return n, from, err
		}
	}
}

func (m *mobile) WriteTo(p []byte, to net.Addr) (int, error) { return m.now().WriteTo(p, to) }
func (m *mobile) LocalAddr() net.Addr                        { return m.now().LocalAddr() }
func (m *mobile) SetDeadline(at time.Time) error             { return m.now().SetDeadline(at) }
func (m *mobile) SetReadDeadline(at time.Time) error         { return m.now().SetReadDeadline(at) }
func (m *mobile) SetWriteDeadline(at time.Time) error        { return m.now().SetWriteDeadline(at) }
func (m *mobile) Close() error {
	m.mu.Lock()
	m.gone = true
	m.mu.Unlock()
	return m.now().Close()
}

// TestWireGuardRoaming: a connection goes on when one end gets another address and port.
func TestWireGuardRoaming(t *testing.T) {
	m, b := &mobile{inner: loopbackUDP(t)}, loopbackUDP(t)
	near, far := tunnel(t, m, b, b.LocalAddr().String(), link.WireGuardOptions{})
	c, d := connect(t, near, listen(t, far), "10.9.0.2:7")
	for range 3 {
		bulkThrough(t, c, d, 1<<20)
		m.move(t)
	}
	bulkThrough(t, c, d, 1<<20)
}

// TestWireGuardFamilies: one socket for both families speaks to peers of either.
func TestWireGuardFamilies(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		var both [2]*net.UDPConn
		for i := range both {
			var err error
			if both[i], err = net.ListenUDP("udp", nil); err != nil {
				t.Fatal(err)
			}
			both[i].SetReadBuffer(4 << 20) // by default it holds 90 packets, and most are lost
		}
		at := net.JoinHostPort(host, fmt.Sprint(both[1].LocalAddr().(*net.UDPAddr).Port))
		near, far := tunnel(t, both[0], both[1], at, link.WireGuardOptions{})
		c, d := connect(t, near, listen(t, far), "10.9.0.2:7")
		bulkThrough(t, c, d, 1<<20)
	}
}

// TestWireGuardName: an endpoint may be a name.
func TestWireGuardName(t *testing.T) {
	a, b := loopbackUDP(t), loopbackUDP(t)
	port := netip.MustParseAddrPort(b.LocalAddr().String()).Port()
	asked := make(chan string, 10)
	near, far := tunnel(t, a, b, net.JoinHostPort("far.example", fmt.Sprint(port)), link.WireGuardOptions{
		Lookup: func(ctx context.Context, network, host string) ([]netip.Addr, error) {
			asked <- host
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}})
	if host := <-asked; host != "far.example" {
		t.Error(host)
	}
	connect(t, near, listen(t, far), "10.9.0.2:7") // five seconds later, if the name is not found before the first packet
}

// TestWireGuardAllowed: what a peer is not allowed goes nowhere, and comes from nowhere.
func TestWireGuardAllowed(t *testing.T) {
	near, far := tunnelled(t, many)
	listen(t, far)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if c, err := near.DialContext(ctx, "tcp", "10.9.0.3:7"); err == nil { // in the prefixes, and of no peer
		c.Close()
		t.Error("a connection to nobody")
	}
}

// TestWireGuardSystem: what the appliance itself asks for may lie outside the prefixes, and there is no gateway to lead to it.
func TestWireGuardSystem(t *testing.T) {
	near, far := tunnelled(t, many)
	listen(t, far)
	near.config.Prefixes = nil
	if err := near.Readdress(Addressing{Addresses: near.Addresses()}); err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort("10.9.0.2:7")
	c, err := near.System([]Endpoint{{at, "tcp"}}).DialContext(t.Context(), "tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestWireGuardSocketEnds: a tunnel whose socket fails is down, and says why.
func TestWireGuardSocketEnds(t *testing.T) {
	broken := &failing{PacketConn: loopbackUDP(t), fail: make(chan struct{})}
	b := loopbackUDP(t)
	near, far := tunnel(t, broken, b, b.LocalAddr().String(), link.WireGuardOptions{})
	c, _ := connect(t, near, listen(t, far), "10.9.0.2:7")
	close(broken.fail)
	broken.SetReadDeadline(time.Now())
	<-near.Done()
	if err := near.Err(); !errors.Is(err, ErrLinkDown) || !errors.Is(err, errBroken) {
		t.Error(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, ErrLinkDown) {
		t.Errorf("read: %v", err)
	}
	if _, err := near.DialContext(t.Context(), "tcp", "10.9.0.2:7"); !errors.Is(err, ErrLinkDown) {
		t.Errorf("dial: %v", err)
	}
}

var errBroken = errors.New("broken")

type failing struct {
	net.PacketConn
	fail chan struct{}
}

func (f *failing) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := f.PacketConn.ReadFrom(p)
	select {
	case <-f.fail:
		return 0, nil, errBroken
	default:
		return n, from, err
	}
}
