package netstack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"sallyport/netstack/link"
)

const bulk = 256 << 20

// TestTransfer sends 256 MiB each way between the stack on a NIC and a kernel.
func TestTransfer(t *testing.T) {
	l := newLab(t)
	s := l.stack(t, nil)
	transfer(t, l, s)
	if st := s.Stats(); st.Escaped != 0 || st.Link.RxDropped > 100 {
		t.Errorf("%+v", st)
	} else {
		t.Logf("%+v", st)
	}
}

func transfer(t *testing.T, l *lab, s *Stack) {
	seed := maphash.MakeSeed()
	block := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(block)
	send := func(w io.Writer) uint64 {
		h := maphash.Hash{}
		h.SetSeed(seed)
		for i := range bulk / len(block) {
			copy(block, fmt.Sprintf("block %8d", i)) // no two are alike
			h.Write(block)
			for sent := 0; sent < len(block); sent += 64 << 10 { // as a relay writes
				if _, err := w.Write(block[sent : sent+64<<10]); err != nil {
					t.Error(err)
					return 0
				}
			}
		}
		return h.Sum64()
	}
	receive := func(r io.Reader) uint64 {
		h := maphash.Hash{}
		h.SetSeed(seed)
		n, err := io.CopyBuffer(struct{ io.Writer }{&h}, struct{ io.Reader }{r}, make([]byte, 64<<10))
		if n != bulk || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		return h.Sum64()
	}
	for _, host := range []string{peer4, peer6} {
		ln := l.listen(t, net.JoinHostPort(host, "5000"))
		c, err := s.DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		k, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		ways := []struct {
			name     string
			from, to net.Conn
		}{{"up", c, k}, {"down", k, c}}
		for _, way := range ways {
			var wg sync.WaitGroup
			var sent, got uint64
			start := time.Now()
			wg.Go(func() {
				sent = send(way.from)
				way.from.(interface{ CloseWrite() error }).CloseWrite()
			})
			wg.Go(func() { got = receive(way.to) })
			wg.Wait()
			if sent != got {
				t.Errorf("%s %s: other bytes arrived than were sent", host, way.name)
			}
			t.Logf("%s %s: %.2f Gbit/s, hashing included", host, way.name, bulk*8/time.Since(start).Seconds()/1e9)
		}
	}
}

func TestKernelPeerErrors(t *testing.T) {
	l := newLab(t)
	s := l.stack(t, func(c *Config) {
		c.Tuning.ConnectTimeout = 2500 * time.Millisecond // a neighbour is asked for each second, and the first answer may be lost
		c.Prefixes = append(c.Prefixes, prefixes("10.99.0.0/16", "fd99::/64")...)
		c.Gateways = []netip.Addr{netip.MustParseAddr(peer4), netip.MustParseAddr(peer6)}
	})
	l.peer.do(t, func() error { // the peer is a router that knows no way
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0))
	})
	dial := func(address string) error {
		c, err := s.DialContext(t.Context(), "tcp", address)
		if err == nil {
			c.Close()
		}
		return err
	}
	for _, host := range []string{peer4, peer6} {
		if err := dial(net.JoinHostPort(host, "81")); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("refused: %v", err)
		}
	}
	for _, address := range []string{"10.77.0.9:81", "[fd77::9]:81"} {
		if err := dial(address); !errors.Is(err, syscall.ETIMEDOUT) { // before "unreachable", which takes three seconds
			t.Errorf("silent: %v", err)
		}
	}
	for _, address := range []string{"10.99.0.9:81", "[fd99::9]:81"} {
		if err := dial(address); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("no route: %v", err)
		}
	}
	if err := dial("10.78.0.9:81"); !errors.As(err, new(*DeniedError)) {
		t.Errorf("outside: %v", err)
	}
}

// TestNothingOpen has a kernel knock at the stack's ports: Silent answers nothing at all, Reset refuses each.
func TestNothingOpen(t *testing.T) {
	ports := []int{1, 22, 53, 80, 443, 3389, 5353, 16384, 40000, 60999, 65535}
	for _, mode := range []Unsolicited{Silent, Reset} {
		t.Run([]string{"silent", "reset"}[mode], func(t *testing.T) {
			l := newLab(t)
			s := l.stack(t, func(c *Config) { c.Unsolicited = mode })
			ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
			defer cancel()
			var wg sync.WaitGroup
			for _, host := range []string{ours4, ours6} {
				for _, port := range ports {
					var knock func(ctx context.Context) (net.Conn, error)
					l.peer.do(t, func() error { // the socket is made in the peer's namespace, on its thread
						knock = prepare(t, host, port)
						return nil
					})
					wg.Go(func() {
						c, err := knock(ctx)
						if err == nil {
							c.Close()
							t.Errorf("%s port %d is open", host, port)
						} else if refused := errors.Is(err, syscall.ECONNREFUSED); refused != (mode == Reset) {
							t.Errorf("%s port %d: %v", host, port, err)
						}
					})
				}
			}
			wg.Wait()
			if st := s.Stats(); st.Escaped != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestSpellingsOnTheWire repeats TestSpellings on a NIC, with a capture by the kernel at the other end of the wire.
func TestSpellingsOnTheWire(t *testing.T) {
	l := newLab(t)
	s := l.stack(t, func(c *Config) {
		lab := spellingConfig(c.Link)
		c.Addresses, c.Prefixes, c.Deny = lab.Addresses, lab.Prefixes, lab.Deny
	})
	frames := l.capture(t)
	before := frames()
	refuseAll(t, s)
	if n := frames() - before; n != 0 {
		t.Errorf("%d frames left", n)
	}
	// The capture does capture: a dial that is allowed is seen, as a question for a neighbour.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	s.DialContext(ctx, "tcp", "10.9.0.5:22")
	if frames() == before {
		t.Error("the capture sees nothing")
	}
}

// TestTap runs the same transfer over a TAP device: the kernel's end of it has the peer's addresses.
func TestTap(t *testing.T) {
	l := &lab{peer: newNamespace(t)}
	var f *os.File
	l.peer.do(t, func() (err error) {
		f, err = openTap(fmt.Sprintf("t%d", os.Getpid()), peer4+"/24", peer6+"/64")
		return err
	})
	tap, err := link.Tap(f, link.Options{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}})
	if err != nil {
		t.Fatal(err)
	}
	s := newStack(t, Config{
		Name: "tap", Link: tap, Addresses: prefixes(ours4+"/24", ours6+"/64"), Prefixes: prefixes("10.77.0.0/24", "fd77::/64"),
	})
	transfer(t, l, s)
}

// TestSilentPeer cuts the wire under two connections: one with data in flight finds out by its retries, an idle one by
// keepalive.
func TestSilentPeer(t *testing.T) {
	l := newLab(t)
	s := l.stack(t, func(c *Config) {
		c.Tuning = Tuning{Retries: 2, KeepaliveIdle: 300 * time.Millisecond, KeepaliveInterval: 100 * time.Millisecond}
	})
	ln := l.listen(t, net.JoinHostPort(peer4, "5000"))
	var busy, idle net.Conn
	for _, c := range []*net.Conn{&busy, &idle} {
		var err error
		if *c, err = s.DialContext(t.Context(), "tcp", ln.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer (*c).Close()
	}
	l.peer.do(t, func() error {
		wire, err := netlink.LinkByName(fmt.Sprintf("p%d", os.Getpid()))
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(wire)
	})
	start := time.Now()
	busy.Write([]byte("is anybody there?"))
	for name, c := range map[string]net.Conn{"busy": busy, "idle": idle} {
		c.SetReadDeadline(start.Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: known within %v", name, time.Since(start))
	}
}

// TestUDPSegments has a kernel send many datagrams in one frame; they arrive one by one.
func TestUDPSegments(t *testing.T) {
	l := newLab(t)
	s := l.stack(t, func(c *Config) { c.Serve = []uint16{servedPort} })
	at, err := s.ListenPacket(t.Context(), "udp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer at.Close()
	for _, host := range []string{ours4, ours6} {
		var c net.Conn
		l.peer.do(t, func() (err error) {
			c, err = net.Dial("udp", net.JoinHostPort(host, "7"))
			return err
		})
		defer c.Close()
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1200) })
		if err != nil {
			t.Fatal(err)
		}
		sent := make([]byte, 20*1200+77)
		rand.NewChaCha8([32]byte{2}).Read(sent)
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		var got []byte
		b := make([]byte, 1<<16)
		at.SetReadDeadline(time.Now().Add(5 * time.Second))
		for i := range 21 {
			n, _, err := at.ReadFrom(b)
			if want := min(1200, len(sent)-len(got)); n != want || err != nil {
				t.Fatalf("%s: datagram %d has %d bytes, want %d: %v", host, i, n, want, err)
			}
			got = append(got, b[:n]...)
		}
		if !bytes.Equal(got, sent) {
			t.Errorf("%s: other bytes arrived than were sent", host)
		}
	}
}

// TestKernel dials with the host's sockets, in a namespace, and keeps off the host itself.
func TestKernel(t *testing.T) {
	l := newLab(t)
	ln := l.listen(t, net.JoinHostPort(peer4, "5000"))
	k := Kernel(KernelConfig{Prefixes: prefixes("10.77.0.0/24", "127.0.0.0/8"), Deny: prefixes("10.77.0.3/32")})
	defer k.Close()
	l.nic.do(t, func() error {
		nic, err := netlink.LinkByIndex(l.ifindex)
		if err != nil {
			return err
		}
		if err := assign(nic, ours4+"/24"); err != nil {
			return err
		}
		c, err := k.DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			return err
		}
		c.Close()
		for host, reason := range map[string]Reason{
			"127.0.0.1": Loopback, ours4: Own, "10.77.0.255": Broadcast, "10.77.0.3": Listed, "8.8.8.8": Outside, "2130706433": Loopback,
		} {
			_, err := k.DialContext(t.Context(), "tcp", net.JoinHostPort(host, "5000"))
			reasoned(t, host, err, reason)
		}
		return nil
	})
	if _, err := k.LookupNetIP(t.Context(), "ip", "a..b"); !errors.Is(err, ErrName) {
		t.Error(err)
	}
}

// TestCloseStuckLink closes a stack whose device takes nothing any more, while a writer is blocked in it.
func TestCloseStuckLink(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1]) // nobody reads here
	nic, err := link.Packet([]*os.File{os.NewFile(uintptr(fds[0]), "stuck")}, link.Options{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}})
	if err != nil {
		t.Fatal(err)
	}
	s := newStack(t, nearConfig(nic))
	peer := netip.MustParseAddrPort("10.9.0.2:9")
	s.stack.AddStaticNeighbor(nicID, protocolOf(peer.Addr()), tcpip.AddrFromSlice(peer.Addr().AsSlice()), "\x02\x00\x00\x00\x00\x08")
	c, err := s.DialContext(t.Context(), "udp", peer.String())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if _, err := c.Write(make([]byte, 1000)); err != nil {
				return
			}
		}
	})
	for was := uint64(1); s.Stats().Link.TxFrames != was || was == 0; { // until it is stuck
		was = s.Stats().Link.TxFrames
		time.Sleep(50 * time.Millisecond)
	}
	start := time.Now()
	s.Close()
	wg.Wait()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}
