package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

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

	// farewell is how long the resets of all connections may take when a stack is closed.
	farewell = time.Second

	// ICMP errors and echo replies, where they are sent at all.
	icmpPerSecond, icmpBurst = 100, 50
)

// neighbours are doubted sooner than RFC 4861 §10 has it, by which a gateway that has another MAC address without a word is
// asked for it after 53 seconds, when TCP waits for as long again. Those that acknowledge something are not asked.
var neighbours = stack.NUDConfigurations{BaseReachableTime: 5 * time.Second, DelayFirstProbeTime: time.Second}

// A Stack is a network whose TCP, UDP and IP live in this process.
type Stack struct {
	name   string
	tuning Tuning
	guard  *guard // with the fence that both checks go by
	stack  *stack.Stack
	config Config // as it was given

	addressing sync.Mutex // one Readdress at a time
	addresses  []netip.Prefix
	homeless   atomic.Pointer[error] // why there is no address; nil while there is one

	routing sync.Mutex
	routes  []tcpip.Route // without those of the system's handles
	gateway gateways
	systems []*System

	own      *System // the resolver's
	resolver atomic.Pointer[Resolver]
	counts   counts
	conns    conns

	closing sync.Once
	wg      sync.WaitGroup
}

var _ Network = (*Stack)(nil)

// New attaches a stack to its link.
func New(c Config) (*Stack, error) {
	c.Tuning = c.Tuning.withDefaults()
	if err := c.validate(); err != nil {
		if c.Link != nil {
			c.Link.Close()
		}
		return nil, fmt.Errorf("network %q: %w", c.Name, err)
	}
	fence := Fence{Prefixes: masked(c.Prefixes), Deny: masked(c.Deny)}
	s := &Stack{
		name:   c.Name,
		tuning: c.Tuning,
		config: c,
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
			NUDConfigs:         neighbours,
		}),
	}
	if err := s.configure(c); err != nil {
		s.Close()
		return nil, fmt.Errorf("network %q: %w", c.Name, err)
	}
	if err := s.balance(c.Balanced); err != nil {
		s.Close()
		return nil, fmt.Errorf("network %q: %w", c.Name, err)
	}
	s.own = s.System(nil)
	if err := s.Readdress(Addressing{Addresses: c.Addresses, Gateways: c.Gateways, DNS: c.DNS, Why: ErrNoAddressYet}); err != nil {
		s.Close()
		return nil, fmt.Errorf("network %q: %w", c.Name, err)
	}
	s.wg.Go(s.watch)
	return s, nil
}

// balance takes the address of a load balancer for ours too. Nothing goes out from it but answers.
func (s *Stack) balance(a netip.Addr) error {
	if !a.IsValid() {
		return nil
	}
	err := s.stack.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
		Protocol:          protocolOf(a),
		AddressWithPrefix: tcpip.AddrFromSlice(a.AsSlice()).WithPrefix(),
	}, stack.AddressProperties{PEB: stack.NeverPrimaryEndpoint})
	if err != nil {
		return fmt.Errorf("add the load balancer's address %v: %w", a, osError(err))
	}
	return nil
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

	// Not RACK: at this version, when a burst is lost, it sends one or two segments each retransmission timeout. Measured by
	// 1 MiB four times over a path that holds 90 packets: the worst of 27 runs took 11 seconds (of 12 others, 48), without
	// RACK 1.6; the medians are half a second.
	sack, recovery := tcpip.TCPSACKEnabled(true), tcpip.TCPRecovery(0)
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

// Fence is what the stack checks at each dial. It changes with the stack's addresses.
func (s *Stack) Fence() Fence { return *s.guard.fence.Load() }

// LookupNetIP asks the network's own DNS servers; there are no host files and no search paths.
func (s *Stack) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if err := s.Err(); err != nil { // which is a better answer than a server's silence
		return nil, &LookupError{Host: host, Err: err}
	}
	return s.resolver.Load().LookupNetIP(ctx, network, host)
}

// Touch opens a socket and closes it again. It returns at once, unless the stack is stuck: then it does not return. What
// the error says is another matter, such as that the stack was closed.
func (s *Stack) Touch() error {
	c, err := s.openUDP(ipv4.ProtocolNumber, &tcpip.FullAddress{}, nil)
	if err != nil {
		return err
	}
	return c.Close()
}

// Close resets every connection, takes the stack off its link and closes that. Nothing of it runs any more when Close
// returns.
func (s *Stack) Close() error {
	s.closing.Do(func() {
		s.lost() // whoever closes us for that may come before watch, and resets say nothing
		// A link that is stuck would never carry the resets, and whoever is stuck in it holds locks.
		stuck := time.AfterFunc(farewell, s.guard.Close)
		s.stack.Close()
		stuck.Stop()
		s.guard.Close()
		s.guard.Wait() // before the stack is locked for good: a frame being delivered may need its lock
		s.stack.Wait()
		s.wg.Wait()
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
