package netstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"sallyport/netstack/link"
)

// Config describes a Stack. Addresses and Link are needed; the rest may be left at its zero value.
type Config struct {
	Name      string           // for statistics and errors
	Link      link.Link        // closed by Stack.Close, if New succeeds
	Addresses []netip.Prefix   // ours, IPv4 and IPv6, each with the subnet that is on the link
	Gateways  []netip.Addr     // at most one of each family
	Prefixes  []netip.Prefix   // what flows may reach
	Deny      []netip.Prefix   // adds to the compiled-in denials
	DNS       []netip.AddrPort // servers, in the order in which they are asked; they may lie outside Prefixes
	Serve     []uint16         // ports that may be listened on; their peers may be anywhere but at a denied address

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
	// with use up to Max; default 256 KiB and 8 MiB. A connection that nobody reads from holds at most what it has
	// grown to.
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
	b.Default = cmp.Or(b.Default, 256<<10)
	b.Max = max(cmp.Or(b.Max, 8<<20), b.Default)
	return b
}

const (
	// nicID is the one attachment of a stack. Two networks are two stacks, which may overlap in addresses.
	nicID tcpip.NICID = 1

	// Ports of our own, drawn at random for each connection: above those that servers like, below Linux's habit of
	// giving the last ones to others, and 45,000 for each peer address and port.
	firstPort, lastPort = 16384, 60999

	// minBuffer is the smallest buffer the stack may shrink one to.
	minBuffer = 4 << 10

	// synRetries is more than fit into any sensible ConnectTimeout, which is what ends a handshake.
	synRetries = 6

	// ICMP errors and echo replies, where they are sent at all.
	icmpPerSecond, icmpBurst = 100, 50
)

// A Stack is a network whose TCP, UDP and IP live in this process.
type Stack struct {
	name   string
	tuning Tuning
	fence  Fence
	guard  *guard
	stack  *stack.Stack

	routing sync.Mutex
	routes  []tcpip.Route // without those of the system's handles
	gateway gateways
	systems []*System

	own      *System // the resolver's
	resolver *Resolver
	counts   counts

	closing sync.Once
}

var _ Network = (*Stack)(nil)

// New attaches a stack to its link.
func New(c Config) (*Stack, error) {
	c.Tuning = c.Tuning.withDefaults()
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("network %q: %w", c.Name, err)
	}
	fence := Fence{Prefixes: masked(c.Prefixes), Own: slices.Clone(c.Addresses), Deny: masked(c.Deny)}
	s := &Stack{
		name:   c.Name,
		tuning: c.Tuning,
		fence:  fence,
		guard:  newGuard(c.Link, fence, c.Serve, c.Unsolicited == Reset),
		stack: stack.New(stack.Options{
			NetworkProtocols: []stack.NetworkProtocolFactory{
				arp.NewProtocol, ipv4.NewProtocol, ipv6.NewProtocolWithOptions(ipv6.Options{
					// A router advertisement is a stranger's word about routes and addresses: not heeded.
					NDPConfigs: ipv6.NDPConfigurations{HandleRAs: ipv6.HandlingRAsDisabled},
				}),
			},
			TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocolCUBIC, udp.NewProtocol},
			HandleLocal:        false, // what is for our own address is denied, not delivered
		}),
	}
	if err := s.configure(c); err != nil {
		s.stack.Destroy()
		return nil, fmt.Errorf("network %q: %w", c.Name, err)
	}
	s.own = s.System(dnsEndpoints(c.DNS))
	s.resolver = &Resolver{Servers: c.DNS, Dial: s.own.DialContext}
	return s, nil
}

// validate reports every fault together.
func (c Config) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Link == nil {
		fault("no link")
	}
	if len(c.Addresses) == 0 {
		fault("no address")
	}
	for _, p := range slices.Concat(c.Addresses, c.Prefixes, c.Deny) {
		if !p.IsValid() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
			fault("%v is not a prefix", p)
		}
	}
	g := gatewaysOf(c.Gateways)
	for _, a := range c.Gateways {
		onLink := contains(c.Addresses, a) || a.Is6() && a.IsLinkLocalUnicast()
		if !a.IsValid() || !onLink {
			fault("gateway %v is not on the link", a)
		} else if g.of(a) != a {
			fault("gateway %v is one too many", a)
		}
	}
	for _, p := range c.Prefixes {
		if !onLink(c.Addresses, p) && !g.of(p.Addr()).IsValid() {
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

// configure sets everything on purpose, so that nothing rests on a library's default.
func (s *Stack) configure(c Config) error {
	var faults []error
	try := func(what string, err tcpip.Error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", what, osError(err)))
		}
	}
	set := func(o tcpip.SettableTransportProtocolOption) {
		try(fmt.Sprintf("set %T", o), s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o))
	}

	sack, recovery := tcpip.TCPSACKEnabled(true), tcpip.TCPRACKLossDetection
	set(&sack)
	set(&recovery)
	// Nagle's delay would hold back keystrokes; what can be sent together, the relay writes together.
	delay := tcpip.TCPDelayEnabled(false)
	set(&delay)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	set(&moderate)
	set(&tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: c.Tuning.ReceiveBuffer.Default, Max: c.Tuning.ReceiveBuffer.Max})
	set(&tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: c.Tuning.SendBuffer.Default, Max: c.Tuning.SendBuffer.Max})
	syns, retries, timeWait := tcpip.TCPSynRetriesOption(synRetries), tcpip.TCPMaxRetriesOption(c.Tuning.Retries), tcpip.TCPTimeWaitTimeoutOption(c.Tuning.TimeWait)
	set(&syns)
	set(&retries)
	set(&timeWait)
	try("set port range", s.stack.SetPortRange(firstPort, lastPort))
	s.stack.SetICMPLimit(icmpPerSecond)
	s.stack.SetICMPBurst(icmpBurst)

	if c.Unsolicited == Silent {
		ignore := func(stack.TransportEndpointID, *stack.PacketBuffer) bool { return true }
		s.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, ignore)
		s.stack.SetTransportProtocolHandler(udp.ProtocolNumber, ignore)
	}

	try("attach", s.stack.CreateNICWithOptions(nicID, s.guard, stack.NICOptions{Name: c.Name}))
	for _, a := range c.Addresses {
		try("add address "+a.String(), s.stack.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
			Protocol:          protocolOf(a.Addr()),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(a.Addr().AsSlice()), PrefixLen: a.Bits()},
		}, stack.AddressProperties{}))
	}

	s.gateway = gatewaysOf(c.Gateways)
	for _, a := range c.Addresses {
		s.routes = append(s.routes, route(a, netip.Addr{}))
	}
	for _, p := range c.Prefixes {
		if !onLink(c.Addresses, p) {
			s.routes = append(s.routes, route(p, s.gateway.of(p.Addr())))
		}
	}
	if len(c.Serve) > 0 { // answers go wherever the question came from; a dial is held by the fence
		for _, g := range []netip.Addr{s.gateway.v4, s.gateway.v6} {
			if g.IsValid() {
				s.routes = append(s.routes, route(netip.PrefixFrom(g, 0), g))
			}
		}
	}
	s.stack.SetRouteTable(slices.Clone(s.routes))
	return errors.Join(faults...)
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}

// route leads to p by a gateway, or straight over the link if that is the zero Addr. There is no default route: what
// no route leads to is "unreachable" at once, without a packet.
func route(p netip.Prefix, gateway netip.Addr) tcpip.Route {
	r := tcpip.Route{
		Destination: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(p.Addr().AsSlice()), PrefixLen: p.Bits()}.Subnet(),
		NIC:         nicID,
	}
	if gateway.IsValid() {
		r.Gateway = tcpip.AddrFromSlice(gateway.AsSlice())
	}
	return r
}

// Fence is what the stack checks at each dial.
func (s *Stack) Fence() Fence { return s.fence }

// DialContext connects a flow, by "tcp" or "udp". The host is an address in any spelling, or a name, of whose
// addresses Fence.Choose picks one.
func (s *Stack) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	s.counts.dials.Add(1)
	dst, err := target(ctx, s, s.fence, network, address)
	if err != nil {
		var denied *DeniedError
		if errors.As(err, &denied) {
			s.counts.denied.Add(1)
		}
		return nil, opError("dial", network, nil, nil, err)
	}
	return s.dial(ctx, network, dst)
}

// dial asks no fence; its callers have.
func (s *Stack) dial(ctx context.Context, network string, dst netip.AddrPort) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
		c, err := s.dialTCP(ctx, dst)
		if err != nil {
			return nil, opError("dial", network, nil, net.TCPAddrFromAddrPort(dst), err)
		}
		return c, nil
	case "udp", "udp4", "udp6":
		c, err := s.dialUDP(dst)
		if err != nil {
			return nil, opError("dial", network, nil, net.UDPAddrFromAddrPort(dst), err)
		}
		return c, nil
	}
	return nil, opError("dial", network, nil, nil, net.UnknownNetworkError(network))
}

func (s *Stack) dialTCP(ctx context.Context, dst netip.AddrPort) (*Conn, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	wq := new(waiter.Queue)
	ep, terr := s.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(dst.Addr()), wq)
	if terr != nil {
		return nil, osError(terr)
	}
	c := newConn(ep, wq)
	err := s.shakeHands(ctx, c, dst)
	if err == nil {
		err = s.keepalive(ep)
	}
	if err != nil {
		c.Abort()
		return nil, err
	}
	c.named()
	return c, nil
}

// keepalive notices that an idle peer has died. There is no user timeout: gVisor would end a session that is merely
// paused, whose peer answers every probe of its closed window. With data in flight the retries find out.
//
// It is called on a connection that stands: before that gVisor starts no timer, and after it only when a segment comes,
// so that the death of a peer who waits for our first word would never be noticed.
func (s *Stack) keepalive(ep tcpip.Endpoint) error {
	idle, interval := tcpip.KeepaliveIdleOption(s.tuning.KeepaliveIdle), tcpip.KeepaliveIntervalOption(s.tuning.KeepaliveInterval)
	for _, o := range []tcpip.SettableSocketOption{&idle, &interval} {
		if err := ep.SetSockOpt(o); err != nil {
			return osError(err)
		}
	}
	if err := ep.SetSockOptInt(tcpip.KeepaliveCountOption, s.tuning.KeepaliveCount); err != nil {
		return osError(err)
	}
	ep.SocketOptions().SetKeepAlive(true)
	return nil
}

// shakeHands connects c and waits for the outcome, the end of ctx or the connect timeout.
func (s *Stack) shakeHands(ctx context.Context, c *Conn, dst netip.AddrPort) error {
	err := c.ep.Connect(tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(dst.Addr().AsSlice()), Port: dst.Port()})
	if _, ok := err.(*tcpip.ErrConnectStarted); !ok && err != nil {
		return osError(err)
	}
	timeout := time.NewTimer(s.tuning.ConnectTimeout)
	defer timeout.Stop()
	for {
		switch tcp.EndpointState(c.ep.State()) {
		case tcp.StateConnecting, tcp.StateSynSent, tcp.StateSynRecv:
		case tcp.StateError:
			if err := c.ep.LastError(); err != nil {
				return osError(err)
			}
			return syscall.ECONNABORTED
		default:
			return nil
		}
		select {
		case <-c.wake.writable:
		case <-timeout.C:
			return syscall.ETIMEDOUT
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// LookupNetIP asks the network's own DNS servers; there are no host files and no search paths.
func (s *Stack) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return s.resolver.LookupNetIP(ctx, network, host)
}

// Close resets every connection, takes the stack off its link and closes that. Nothing of it runs any more when Close
// returns.
func (s *Stack) Close() error {
	s.closing.Do(func() {
		s.stack.Close() // while the link still carries the resets
		s.guard.Close()
		s.guard.Wait() // before the stack is locked for good: a frame being delivered may need its lock
		s.stack.Wait()
	})
	return nil
}

// tcpAddr and udpAddr are a stack's address in package net's types.
func tcpAddr(a tcpip.FullAddress) *net.TCPAddr {
	return &net.TCPAddr{IP: net.IP(a.Addr.AsSlice()), Port: int(a.Port)}
}

func udpAddr(a tcpip.FullAddress) *net.UDPAddr {
	return &net.UDPAddr{IP: net.IP(a.Addr.AsSlice()), Port: int(a.Port)}
}
