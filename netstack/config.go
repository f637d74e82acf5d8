package netstack

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sallyport/netstack/link"
)

// Config describes a Stack. Link is needed, and Addresses unless Dynamic; the rest may be left at its zero value.
type Config struct {
	Name      string           // for statistics and errors
	Link      link.Link        // taken over: closed by Stack.Close, or by New if that fails
	Dynamic   bool             // the addresses come later, by Readdress
	Addresses []netip.Prefix   // ours, IPv4 and IPv6, each with the subnet that is on the link
	Gateways  []netip.Addr     // at most one of each family
	Prefixes  []netip.Prefix   // what flows may reach
	Deny      []netip.Prefix   // adds to the compiled-in denials
	DNS       []netip.AddrPort // servers, in the order in which they are asked; they may lie outside Prefixes
	Serve     []uint16         // ports that may be listened on; their peers may be anywhere but at a denied address
	Balanced  netip.Addr       // a load balancer's, which passes packets on as they are: packets to it are ours too; default none

	Unsolicited Unsolicited
	Tuning      Tuning
}

// Unsolicited says what a stranger hears who knocks where nothing listens.
type Unsolicited uint8

const (
	Silent Unsolicited = iota // nothing, and no echo replies either
	Reset                     // what any host with nothing open would say: RST, ICMP unreachable, echo replies
)

// Tuning holds the numbers that a deployment or a test may want to change.
type Tuning struct {
	// ConnectTimeout ends a handshake that nobody answers; default 10 seconds, in which four SYN are sent. A person
	// waits for this answer.
	ConnectTimeout time.Duration

	// KeepaliveIdle, KeepaliveInterval and KeepaliveCount find a dead peer on an idle connection; default 30 seconds,
	// 10 seconds and 3. (gVisor's own default is over two hours.)
	KeepaliveIdle     time.Duration
	KeepaliveInterval time.Duration
	KeepaliveCount    int

	// Retries is how often data in flight is sent again before the peer is given up; default 8, which was measured to
	// be 51 seconds on a network with small round trips (0.2 s, doubled each time).
	Retries int

	// ReceiveBuffer and SendBuffer bound what one connection keeps here in each direction. Both start small and grow
	// with use up to Max; default 128 KiB, from which bulk was measured to be as fast as from 1 MiB, and 8 MiB. A
	// connection that nobody reads from holds at most what it has grown to.
	ReceiveBuffer Buffer
	SendBuffer    Buffer

	// TimeWait keeps a closed connection's port from being used again with the same peer; default 5 seconds, long
	// enough for a stray segment inside a private network and short enough for 45,000 ports.
	TimeWait time.Duration
}

// Buffer is the range of a buffer's size in bytes.
type Buffer struct{ Default, Max int }

func (t Tuning) withDefaults() Tuning {
	t.ConnectTimeout = cmp.Or(t.ConnectTimeout, 10*time.Second)
	t.KeepaliveIdle = cmp.Or(t.KeepaliveIdle, 30*time.Second)
	t.KeepaliveInterval = cmp.Or(t.KeepaliveInterval, 10*time.Second)
	t.KeepaliveCount = cmp.Or(t.KeepaliveCount, 3)
	t.Retries = cmp.Or(t.Retries, 8)
	t.ReceiveBuffer = t.ReceiveBuffer.withDefaults()
	t.SendBuffer = t.SendBuffer.withDefaults()
	t.TimeWait = cmp.Or(t.TimeWait, 5*time.Second)
	return t
}

func (b Buffer) withDefaults() Buffer {
	b.Default = cmp.Or(b.Default, 128<<10)
	b.Max = max(cmp.Or(b.Max, 8<<20), b.Default)
	return b
}

// validate reports every fault together.
func (c Config) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Link == nil {
		fault("no link")
	}
	if len(c.Addresses) == 0 && !c.Dynamic {
		fault("no address")
	}
	for _, p := range slices.Concat(c.Addresses, c.Prefixes, c.Deny) {
		if !p.IsValid() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			fault("%v is not a prefix", p)
		}
	}
	g := gatewaysOf(c.Gateways)
	for _, a := range c.Gateways {
		onLink := c.Dynamic || contains(c.Addresses, a) || a.Is6() && a.IsLinkLocalUnicast()
		if !a.IsValid() || !onLink {
			fault("gateway %v is not on the link", a)
		} else if g.of(a) != a {
			fault("gateway %v is one too many", a)
		}
	}
	for _, p := range c.Prefixes {
		if !c.Dynamic && c.Link != nil && hasNeighbours(c.Link) && !onLink(c.Addresses, p) && !g.of(p.Addr()).IsValid() {
			fault("no gateway towards %v", p)
		}
	}
	for _, d := range c.DNS {
		if !d.IsValid() || d.Port() == 0 || d.Addr().Zone() != "" {
			fault("%v is not a DNS server", d)
		}
	}
	for _, port := range c.Serve {
		if port == 0 || port >= firstPort && port <= lastPort {
			fault("port %d cannot be served: the ports %d to %d are drawn for connections out", port, firstPort, lastPort)
		}
	}
	return errors.Join(faults...)
}

// hasNeighbours says whether a link leads to machines with addresses of its own; else, as in a tunnel, whatever is sent
// is on its way.
func hasNeighbours(l link.Link) bool {
	return l.Capabilities()&stack.CapabilityResolutionRequired != 0
}

// gateways is at most one router for each family.
type gateways struct{ v4, v6 netip.Addr }

func gatewaysOf(addrs []netip.Addr) (g gateways) {
	for _, a := range addrs {
		switch {
		case a.Is4() && !g.v4.IsValid():
			g.v4 = a
		case a.Is6() && !g.v6.IsValid():
			g.v6 = a
		}
	}
	return g
}

// of is the gateway of a's family.
func (g gateways) of(a netip.Addr) netip.Addr {
	if a.Is4() {
		return g.v4
	}
	return g.v6
}

// onLink says whether all of p is on one of the subnets that addresses attach us to.
func onLink(addresses []netip.Prefix, p netip.Prefix) bool {
	for _, a := range addresses {
		if a.Contains(p.Addr()) && a.Bits() <= p.Bits() {
			return true
		}
	}
	return false
}

func masked(prefixes []netip.Prefix) []netip.Prefix {
	var m []netip.Prefix
	for _, p := range prefixes {
		m = append(m, p.Masked())
	}
	return m
}
