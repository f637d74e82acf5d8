package netstack

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sallyport/netstack/link"
)

// Why a stack reaches nothing at this moment, or has ended a connection.
var (
	ErrLinkDown     = errors.New("the VNet's link is down")
	ErrNoAddressYet = errors.New("the appliance has no address in the VNet yet")
	ErrAddressLost  = errors.New("the appliance's address in the VNet has changed or expired")
)

// Addressing is what a stack is known by on its network, and how it gets out of its subnets.
type Addressing struct {
	Addresses []netip.Prefix
	Gateways  []netip.Addr // at most one of each family; one that is off the link is asked for on the link all the same
	DNS       []netip.AddrPort
	MTU       int // 0: as it is

	Why error // with no address: what is said to who dials, and to who loses a connection
}

// Readdress replaces a live stack's addresses, routes and name servers. Connections from an address that stays go on;
// those from one that goes end with ErrAddressLost. What flows may reach stays as it was configured.
func (s *Stack) Readdress(a Addressing) error {
	s.addressing.Lock()
	defer s.addressing.Unlock()
	lost := slices.DeleteFunc(slices.Clone(s.addresses), func(p netip.Prefix) bool { return slices.Contains(a.Addresses, p) })
	added := slices.DeleteFunc(slices.Clone(a.Addresses), func(p netip.Prefix) bool { return slices.Contains(s.addresses, p) })
	// An address that comes and one that goes are both denied while they change.
	s.fenceOff(slices.Concat(a.Addresses, lost))
	for _, p := range lost { // before the new ones: it may be one address with another subnet
		if err := s.stack.RemoveAddress(nicID, tcpip.AddrFromSlice(p.Addr().AsSlice())); err != nil {
			return fmt.Errorf("remove address %v: %w", p, osError(err))
		}
		s.addresses = slices.DeleteFunc(s.addresses, func(q netip.Prefix) bool { return q == p })
	}
	for _, p := range added {
		if err := s.stack.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
			Protocol:          protocolOf(p.Addr()),
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(p.Addr().AsSlice()), PrefixLen: p.Bits()},
		}, stack.AddressProperties{}); err != nil {
			return fmt.Errorf("add address %v: %w", p, osError(err))
		}
		s.addresses = append(s.addresses, p)
	}
	if a.MTU > 0 {
		if err := s.stack.SetNICMTU(nicID, uint32(a.MTU)); err != nil {
			return fmt.Errorf("set the MTU to %d: %w", a.MTU, osError(err))
		}
	}
	s.lead(a)
	s.fenceOff(a.Addresses)
	s.own.Allow(dnsEndpoints(a.DNS))
	s.resolver.Store(&Resolver{Servers: slices.Clone(a.DNS), Dial: s.own.DialContext})

	why := ErrAddressLost
	if len(a.Addresses) > 0 {
		s.homeless.Store(nil)
	} else {
		if a.Why != nil {
			why = a.Why
		}
		s.homeless.Store(&why)
	}
	gone := func(addr netip.Addr) bool {
		return !slices.ContainsFunc(a.Addresses, func(p netip.Prefix) bool { return p.Addr() == addr })
	}
	for _, c := range s.conns.all() {
		if addr, ok := c.from(); ok && gone(addr) {
			c.fail(why)
		}
	}
	return nil
}

// fenceOff makes these the appliance's own addresses, which no flow reaches.
func (s *Stack) fenceOff(own []netip.Prefix) {
	f := s.Fence()
	f.Own = slices.Clone(own)
	if a := s.config.Balanced; a.IsValid() {
		f.Own = append(f.Own, netip.PrefixFrom(a, a.BitLen()))
	}
	s.guard.fence.Store(&f)
}

// lead replaces the routes.
func (s *Stack) lead(a Addressing) {
	s.routing.Lock()
	defer s.routing.Unlock()
	s.gateway, s.routes = gatewaysOf(a.Gateways), nil
	for _, p := range a.Addresses {
		s.routes = append(s.routes, route(p, netip.Addr{}))
	}
	reaches := func(p netip.Prefix) bool { // by a gateway, or because all that is sent is on its way
		return s.gateway.of(p.Addr()).IsValid() || !hasNeighbours(s.guard)
	}
	for _, p := range s.config.Prefixes {
		if !onLink(a.Addresses, p) && reaches(p) {
			s.routes = append(s.routes, route(p, s.gateway.of(p.Addr())))
		}
	}
	if len(s.config.Serve) > 0 { // answers go wherever the question came from; a dial is held by the fence
		for _, g := range []netip.Addr{s.gateway.v4, s.gateway.v6} {
			if g.IsValid() {
				s.routes = append(s.routes, route(netip.PrefixFrom(g, 0), g))
			}
		}
	}
	s.reroute()
}

// Addresses are the stack's own at this moment.
func (s *Stack) Addresses() []netip.Prefix {
	s.addressing.Lock()
	defer s.addressing.Unlock()
	return slices.Clone(s.addresses)
}

// Done is closed when the stack's link has ended, by Close or by itself. Nothing brings it back: close the stack and
// make another.
func (s *Stack) Done() <-chan struct{} { return s.guard.Done() }

// Err is why no flow is possible now: ErrLinkDown, with what happened to it, or that there is no address. It is nil
// while all is well.
func (s *Stack) Err() error {
	if err := s.guard.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrLinkDown, err)
	}
	if why := s.homeless.Load(); why != nil {
		return *why
	}
	return nil
}

// watch waits for the end of the link. Connections over it are then at an end too, and say why.
func (s *Stack) watch() {
	<-s.guard.Done()
	s.lost()
}

// lost ends the connections over a link that has ended by itself, each with the reason.
func (s *Stack) lost() {
	if !isClosed(s.guard.Done()) || errors.Is(s.guard.Err(), link.ErrClosed) {
		return
	}
	why := s.Err()
	for _, c := range s.conns.all() {
		c.fail(why)
	}
}

// conns are the connections that are open.
type conns struct {
	mu  sync.Mutex
	set map[*Conn]struct{}
}

func (c *conns) add(one *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.set == nil {
		c.set = map[*Conn]struct{}{}
	}
	c.set[one] = struct{}{}
}

func (c *conns) remove(one *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.set, one)
}

func (c *conns) all() []*Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*Conn, 0, len(c.set))
	for one := range c.set {
		list = append(list, one)
	}
	return list
}

// from is the address of ours that the connection has.
func (c *Conn) from() (netip.Addr, bool) {
	at, err := c.ep.GetLocalAddress()
	if err != nil || at.Addr.Len() == 0 {
		return netip.Addr{}, false
	}
	addr, ok := netip.AddrFromSlice(at.Addr.AsSlice())
	return addr.Unmap(), ok
}
