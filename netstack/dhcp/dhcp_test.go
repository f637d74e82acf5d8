package dhcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

var (
	ours   = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	theirs = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

// A server answers in the place of a network.
type server struct {
	start   time.Time
	t       *testing.T
	replies chan []byte
	log     strings.Builder
	answer  func(n int, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 // nil: silence
	asked   int
}

func (s *server) ReadFrame(ctx context.Context, p []byte) (int, error) {
	select {
	case f := <-s.replies:
		return copy(p, f), nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (s *server) WriteFrame(p []byte) error {
	f := bytes.Clone(p)
	if f[34] != 0 || f[35] != clientPort || f[37] != serverPort {
		s.t.Errorf("a frame from %x to %x", f[34:36], f[36:38])
	}
	if sum(0, f[14:34]) != 0xffff || sum(uint32(17+len(f)-34)+uint32(sum(0, f[26:34])), f[34:]) != 0xffff {
		s.t.Errorf("wrong checksums in %x", f)
	}
	m, err := dhcpv4.FromBytes(f[overhead:])
	if err != nil {
		s.t.Fatal(err)
	}
	to := "any"
	if !bytes.Equal(f[:6], broadcast.mac) {
		to = netip.AddrFrom4([4]byte(f[30:34])).String()
	}
	s.asked++
	fmt.Fprintf(&s.log, "%v %v to %s\n", time.Since(s.start).Round(time.Second), m.MessageType(), to)
	reply := s.answer(s.asked, m)
	if reply == nil {
		return nil
	}
	out := wrap(theirs, destination{ours, netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("10.0.0.1")}, reply.ToBytes())
	out[34], out[35], out[36], out[37] = 0, serverPort, 0, clientPort
	s.replies <- []byte("noise")
	s.replies <- out
	return nil
}

func reply(m *dhcpv4.DHCPv4, kind dhcpv4.MessageType, addr string, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	r, err := dhcpv4.NewReplyFromRequest(m, append([]dhcpv4.Modifier{dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.ParseIP(addr)),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IP{10, 0, 0, 1})),
		dhcpv4.WithOption(dhcpv4.OptRouter(net.IP{10, 0, 0, 1})), dhcpv4.WithOption(dhcpv4.OptDNS(net.IP{10, 0, 0, 2}, net.IP{10, 0, 0, 3})),
		dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0x05, 0xb4}), dhcpv4.WithLeaseTime(80)}, more...)...)
	if err != nil {
		panic(err)
	}
	return r
}

// usual offers and acknowledges one address.
func usual(m *dhcpv4.DHCPv4, addr string) *dhcpv4.DHCPv4 {
	if m.MessageType() == dhcpv4.MessageTypeDiscover {
		return reply(m, dhcpv4.MessageTypeOffer, addr)
	}
	return reply(m, dhcpv4.MessageTypeAck, addr)
}

// run runs a client for a while and returns what it has asked and what it has told.
func run(t *testing.T, d time.Duration, answer func(n int, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4) (asked string, told []string) {
	s := &server{t: t, replies: make(chan []byte, 100), answer: answer, start: time.Now()}
	ctx, cancel := context.WithTimeoutCause(t.Context(), d, errors.New("enough"))
	defer cancel()
	err := Client{Conn: s, MAC: ours}.Run(ctx, func(l *Lease, why error) {
		line := fmt.Sprintf("%v %v", time.Since(s.start).Round(time.Second), why)
		if l != nil {
			line = fmt.Sprintf("%v %v by %v, DNS %v, MTU %d", time.Since(s.start).Round(time.Second), l.Address, l.Router, l.DNS, l.MTU)
		}
		told = append(told, line)
	})
	if err == nil || err.Error() != "enough" {
		t.Errorf("Run: %v", err)
	}
	return s.log.String(), told
}

func check(t *testing.T, asked, wantAsked string, told []string, wantTold ...string) {
	t.Helper()
	if asked != wantAsked {
		t.Errorf("asked\n%s\nwant\n%s", asked, wantAsked)
	}
	if got, want := strings.Join(told, "\n"), strings.Join(wantTold, "\n"); got != want {
		t.Errorf("told\n%s\nwant\n%s", got, want)
	}
}

func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, told := run(t, 100*time.Second, func(_ int, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 { return usual(m, "10.0.0.4") })
		check(t, asked, `0s DISCOVER to any
0s REQUEST to any
40s REQUEST to 10.0.0.1
1m20s REQUEST to 10.0.0.1
`, told, "0s 10.0.0.4/24 by 10.0.0.1, DNS [10.0.0.2 10.0.0.3], MTU 1460")
	})
}

// TestServerGone: renewing goes to the server, rebinding to all, and at the end the lease is lost; a server that comes
// back is found.
func TestServerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		back := 0
		asked, told := run(t, 130*time.Second, func(n int, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
			if m.MessageType() == dhcpv4.MessageTypeDiscover {
				back++
			}
			if n <= 2 || back == 4 {
				return usual(m, "10.0.0.4")
			}
			return nil
		})
		if !strings.HasPrefix(asked, `0s DISCOVER to any
0s REQUEST to any
40s REQUEST to 10.0.0.1
55s REQUEST to 10.0.0.1
`) || !strings.Contains(asked, "1m10s REQUEST to any\n1m15s REQUEST to any\n") || !strings.Contains(asked, "\n1m20s DISCOVER") {
			t.Errorf("asked\n%s", asked)
		}
		if len(told) != 3 || told[1] != "1m20s "+ErrExpired.Error() {
			t.Errorf("told %q", told)
		}
	})
}

// TestNewAddress: a renewal may bring another address, and a NAK another lease.
func TestNewAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, told := run(t, 100*time.Second, func(n int, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
			switch {
			case n <= 2:
				return usual(m, "10.0.0.4")
			case n == 3:
				return usual(m, "10.0.0.5")
			case n == 4:
				return reply(m, dhcpv4.MessageTypeNak, "0.0.0.0")
			}
			return usual(m, "10.0.0.6")
		})
		rest := " by 10.0.0.1, DNS [10.0.0.2 10.0.0.3], MTU 1460"
		check(t, asked, `0s DISCOVER to any
0s REQUEST to any
40s REQUEST to 10.0.0.1
1m20s REQUEST to 10.0.0.1
1m20s DISCOVER to any
1m20s REQUEST to any
`, told, "0s 10.0.0.4/24"+rest, "40s 10.0.0.5/24"+rest, "1m20s "+ErrRefused.Error(), "1m20s 10.0.0.6/24"+rest)
	})
}

// TestNobody: questions are repeated, ever less often, and an offer that nobody confirms is not a lease.
func TestNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		_, told := run(t, time.Hour, func(int, *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 { n++; return nil })
		if len(told) > 0 || n < 80 || n > 200 {
			t.Errorf("%d questions in an hour, told %q", n, told)
		}
		_, told = run(t, time.Hour, func(_ int, m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
			if m.MessageType() == dhcpv4.MessageTypeDiscover {
				return usual(m, "10.0.0.4")
			}
			return nil
		})
		if len(told) > 0 {
			t.Errorf("told %q", told)
		}
	})
}

// TestStrange: what a server may not give is not taken.
func TestStrange(t *testing.T) {
	for name, m := range map[string]dhcpv4.Modifier{
		"loopback":   dhcpv4.WithYourIP(net.IP{127, 0, 0, 1}),
		"no address": dhcpv4.WithYourIP(net.IP{0, 0, 0, 0}),
		"metadata":   dhcpv4.WithYourIP(net.IP{169, 254, 169, 254}),
		"everything": dhcpv4.WithNetmask(net.CIDRMask(0, 32)),
		"holes":      dhcpv4.WithNetmask(net.IPMask{255, 0, 255, 0}),
	} {
		d, err := dhcpv4.NewDiscovery(ours)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := newHold(reply(d, dhcpv4.MessageTypeAck, "10.0.0.4", m)); err == nil {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func TestTimes(t *testing.T) {
	d, err := dhcpv4.NewDiscovery(ours)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		length uint32
		want   [3]time.Duration // renew, rebind, end
	}{
		{length: 80, want: [3]time.Duration{40 * time.Second, 70 * time.Second, 80 * time.Second}},
		{length: 0, want: [3]time.Duration{time.Second, 1750 * time.Millisecond, 2 * time.Second}},
		{length: 1<<32 - 1, want: [3]time.Duration{12 * time.Hour, 21 * time.Hour, 24 * time.Hour}},
	} {
		h, err := newHold(reply(d, dhcpv4.MessageTypeAck, "10.0.0.4", dhcpv4.WithLeaseTime(c.length)))
		if got := [3]time.Duration{h.renew, h.rebind, h.Length}; err != nil || got != c.want {
			t.Errorf("%d seconds: %v, %v", c.length, got, err)
		}
	}
}

func FuzzUnwrap(f *testing.F) {
	f.Add(wrap(ours, broadcast, make([]byte, 300)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, _, ok := unwrap(b); ok {
			if reply, err := dhcpv4.FromBytes(m); err == nil {
				newHold(reply)
			}
		}
	})
}
