package netstack

import (
	"context"
	"net"
	"net/netip"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// An Endpoint is one address, port and protocol that the appliance itself may talk to.
type Endpoint struct {
	Addr    netip.AddrPort
	Network string // "tcp" or "udp"
}

// A System is the appliance's own door, for its DNS, certificates, time, metadata and health probes. It opens to an
// exact list, which may name what the fence denies to flows. It is no Network: whoever serves people is given the Stack
// as a Network and cannot get at it.
type System struct {
	stack *Stack
	list  []Endpoint // guarded by stack.routing
}

// System returns a new handle that may dial exactly these.
func (s *Stack) System(allow []Endpoint) *System {
	h := &System{stack: s}
	s.routing.Lock()
	s.systems = append(s.systems, h)
	s.routing.Unlock()
	h.Allow(allow)
	return h
}

// Allow replaces the handle's list.
func (h *System) Allow(list []Endpoint) {
	h.stack.routing.Lock()
	defer h.stack.routing.Unlock()
	is := make([]Endpoint, len(list))
	for i, e := range list {
		is[i] = Endpoint{unmap(e.Addr), e.Network}
	}
	h.stack.guard.allow(h.list, is)
	h.list = is
	h.stack.reroute()
}

// Close ends the handle. What is left of its connections is cut off.
func (h *System) Close() error {
	h.Allow(nil)
	h.stack.routing.Lock()
	defer h.stack.routing.Unlock()
	h.stack.systems = slices.DeleteFunc(h.stack.systems, func(other *System) bool { return other == h })
	return nil
}

// DialContext connects to an address and port that are on the list; names are not resolved.
func (h *System) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	dst, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, opError("dial", network, nil, nil, err)
	}
	dst = unmap(dst)
	h.stack.routing.Lock()
	listed := slices.Contains(h.list, Endpoint{dst, network})
	h.stack.routing.Unlock()
	if !listed {
		return nil, opError("dial", network, nil, net.TCPAddrFromAddrPort(dst), &DeniedError{Addr: dst.Addr(), Reason: Unlisted, Always: true})
	}
	return h.stack.dial(ctx, network, dst)
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// reroute leads to what the handles' lists name outside all other routes, one host at a time, by the gateway, or
// straight over a link on which all that is sent is on its way.
func (s *Stack) reroute() {
	table := slices.Clone(s.routes)
	for _, h := range s.systems {
		for _, e := range h.list {
			addr := e.Addr.Addr()
			covered := slices.ContainsFunc(table, func(r tcpip.Route) bool {
				return r.Destination.Contains(tcpip.AddrFromSlice(addr.AsSlice()))
			})
			if gateway := s.gateway.of(addr); !covered && (gateway.IsValid() || !hasNeighbours(s.guard)) {
				table = append(table, route(netip.PrefixFrom(addr, addr.BitLen()), gateway))
			}
		}
	}
	s.stack.SetRouteTable(table)
}

func dnsEndpoints(servers []netip.AddrPort) []Endpoint {
	var list []Endpoint
	for _, a := range servers {
		list = append(list, Endpoint{a, "udp"}, Endpoint{a, "tcp"})
	}
	return list
}
