package netstack

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"sallyport/netstack/link"
)

// tap keeps the frames that pass a pipe.
type tap struct {
	mu     sync.Mutex
	frames [][]byte
}

func (t *tap) see(f []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.frames = append(t.frames, f)
}

// to counts the IP packets for an address.
func (t *tap) to(a netip.Addr) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, f := range t.frames {
		switch binary.BigEndian.Uint16(f[12:]) {
		case uint16(header.IPv4ProtocolNumber):
			if netip.AddrFrom4([4]byte(f[14+16:])) == a {
				n++
			}
		case uint16(header.IPv6ProtocolNumber):
			if netip.AddrFrom16([16]byte(f[14+24:])) == a {
				n++
			}
		}
	}
	return n
}

// TestGuard goes round the first check, as a bug would, and finds the second shut.
func TestGuard(t *testing.T) {
	var seen tap
	a, b := link.Pipe(link.PipeOptions{Tap: seen.see})
	c := nearConfig(a)
	c.Prefixes = prefixes("10.9.0.0/28", "fd09::/124") // less than the link
	c.Gateways = []netip.Addr{netip.MustParseAddr("10.9.0.2"), netip.MustParseAddr("fd09::2")}
	c.Tuning.ConnectTimeout = 100 * time.Millisecond
	near := newStack(t, c)
	newStack(t, farConfig(b))
	// The routes are wrong, too: all the world, by the gateway.
	for _, p := range []string{"0.0.0.0/0", "::/0"} {
		near.routes = append(near.routes, route(prefix(p), near.gateway.of(prefix(p).Addr())))
	}
	near.reroute()
	for _, a := range []string{"10.9.0.77", "fd09::77"} { // which would not be found
		a := netip.MustParseAddr(a)
		near.stack.AddStaticNeighbor(nicID, protocolOf(a), tcpip.AddrFromSlice(a.AsSlice()), b.LinkAddress())
	}

	for i, a := range []string{"169.254.169.254", "168.63.129.16", "8.8.8.8", "10.9.0.77", "fd09::77", "64:ff9b::a9fe:a9fe", "2001:db8::1"} {
		dst := netip.AddrPortFrom(netip.MustParseAddr(a), 80)
		for _, network := range []string{"tcp", "udp"} {
			if c, err := near.dial(t.Context(), network, dst); err == nil {
				c.Write([]byte("hello"))
				c.Close()
			}
		}
		if n := seen.to(dst.Addr()); n != 0 {
			t.Errorf("%d packets to %v", n, dst)
		}
		if n := near.Stats().Escaped; n < uint64(2*(i+1)) {
			t.Errorf("%v: only %d were counted", dst, n)
		}
	}
}

// TestSystem lets the appliance itself, and nobody else, go to exactly what is on its list.
func TestSystem(t *testing.T) {
	var seen tap
	a, b := link.Pipe(link.PipeOptions{Tap: seen.see})
	c := nearConfig(a)
	c.Gateways = []netip.Addr{netip.MustParseAddr("10.9.0.2")}
	c.Tuning.ConnectTimeout = 100 * time.Millisecond
	near := newStack(t, c)
	newStack(t, farConfig(b))
	imds := netip.MustParseAddrPort("169.254.169.254:80")
	h := near.System([]Endpoint{{imds, "tcp"}})

	// The far end does not route, so an answer does not come; that the packet leaves is the point.
	if _, err := h.DialContext(t.Context(), "tcp", imds.String()); err == nil || errors.As(err, new(*DeniedError)) {
		t.Error(err)
	}
	if seen.to(imds.Addr()) == 0 {
		t.Error("the system's packet did not leave")
	}
	before := seen.to(imds.Addr())
	var denied *DeniedError
	for _, other := range []struct{ network, address string }{
		{"udp", "169.254.169.254:80"}, {"tcp", "169.254.169.254:81"}, {"tcp", "168.63.129.16:80"}, {"tcp", "10.9.0.2:80"},
	} {
		if _, err := h.DialContext(t.Context(), other.network, other.address); !errors.As(err, &denied) || denied.Reason != Unlisted {
			t.Errorf("%v: %v", other, err)
		}
	}
	if _, err := near.DialContext(t.Context(), "tcp", imds.String()); !errors.As(err, &denied) || denied.Reason != Metadata {
		t.Errorf("a flow: %v", err)
	}
	near.dial(t.Context(), "tcp", netip.AddrPortFrom(imds.Addr(), 81)) // past the fence, to another port
	h.Allow(nil)
	near.dial(t.Context(), "tcp", imds)
	handles := len(near.systems)
	h = near.System([]Endpoint{{imds, "tcp"}})
	h.Close()
	if _, err := h.DialContext(t.Context(), "tcp", imds.String()); !errors.As(err, &denied) || denied.Reason != Unlisted {
		t.Errorf("a closed handle: %v", err)
	}
	near.dial(t.Context(), "tcp", imds)
	if len(near.systems) != handles {
		t.Error("a closed handle stays")
	}
	if n := seen.to(imds.Addr()); n != before {
		t.Errorf("%d packets more", n-before)
	}
}

// TestServe answers peers from anywhere, but only from the port that is served.
func TestServe(t *testing.T) {
	a, b := link.Pipe(link.PipeOptions{})
	far := farConfig(b)
	far.Prefixes, far.Gateways = prefixes("172.16.0.0/16"), []netip.Addr{netip.MustParseAddr("10.9.0.1")}
	s := newStack(t, far)
	near := newStack(t, nearConfig(a))
	l := listen(t, s)
	connect(t, near, l, "10.9.0.2:7")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.DialContext(ctx, "tcp", "10.9.0.1:22"); !errors.As(err, new(*DeniedError)) {
		t.Error(err)
	}
}

// TestMuted knocks from outside the prefixes: the answer is dropped, and is no alarm.
func TestMuted(t *testing.T) {
	var seen tap
	a, b := link.Pipe(link.PipeOptions{Tap: seen.see})
	far := farConfig(b)
	far.Prefixes = prefixes("10.9.0.128/25")
	s := newStack(t, far)
	c := nearConfig(a)
	c.Tuning.ConnectTimeout = 200 * time.Millisecond
	near := newStack(t, c)
	for _, address := range []string{"10.9.0.2:22", "[fd09::2]:22"} {
		if _, err := near.DialContext(t.Context(), "tcp", address); !errors.Is(err, syscall.ETIMEDOUT) {
			t.Error(err)
		}
	}
	if st := s.Stats(); st.Escaped != 0 || st.Muted == 0 || seen.to(netip.MustParseAddr("10.9.0.1")) != 0 {
		t.Errorf("%+v", st)
	}
}
