// Package netstack is the appliance's way into a private network: dialling out of it, resolving names inside it, and
// the fence that says where nobody may ever go.
//
//	net, err := netstack.New(netstack.Config{
//		Name:      "hub",
//		Link:      nic,                                               // link.Packet, link.Tap, link.WireGuard, link.Pipe
//		Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.4/24")},
//		Gateways:  []netip.Addr{netip.MustParseAddr("10.1.0.1")},
//		Prefixes:  []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
//		DNS:       []netip.AddrPort{netip.MustParseAddrPort("10.1.0.2:53")},
//	})
//	addrs, err := net.LookupNetIP(ctx, "ip", "db-1.corp")
//	conn, err := net.DialContext(ctx, "tcp", "10.1.7.20:22")
//
// # Three makes of a Network
//
//	Stack     TCP, UDP and IP in this process (gVisor) on a link; the kernel has no address on that network
//	Kernel    the host's sockets, behind the same fence; for trying out
//	Memory    no packets at all; for tests
//
// # The fence
//
// A flow reaches an address only if it lies in the network's prefixes and on no list of denials. The compiled-in list
// (loopback, link-local, metadata services, multicast, the appliance itself, and every other spelling of those) has no
// switch. The address is checked when it is dialled, after names are resolved, whatever the routes say. Under a Stack,
// a second check that shares no decision with the first looks at every packet on its way to the link and drops, and
// counts, what no flow may send; see guard.
//
// The appliance's own traffic (DNS, for one) may need to go elsewhere. It has its own handle with an exact list; see
// System.
//
// # When the network changes
//
// Addresses come, change and go (Stack.Readdress): connections from one that stays do not notice, those from one that
// goes end. A link may end (Stack.Done): all connections over it do too, and nothing brings that Stack back. In both cases
// dials fail, and connections break, with an error that says so, such as ErrLinkDown; Stack.Err is the state now.
//
// # A connection at rest
//
// A Conn keeps one waiter entry with the stack and no goroutine. Reading allocates nothing: bytes go from the stack's
// buffers into the caller's slice, once. Writing copies once, into the stack's buffers.
package netstack

import (
	"context"
	"net"
	"net/netip"
)

// A Network is dialled, listened on and asked for names like package net.
type Network interface {
	// DialContext connects to a host and port, as net.Dialer does. A name is resolved in this network.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)

	// Listen accepts TCP connections, where the network's configuration serves that port.
	Listen(ctx context.Context, network, address string) (net.Listener, error)

	// ListenPacket receives UDP, where the network's configuration serves that port.
	ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error)

	// LookupNetIP returns all addresses of a host; network is "ip", "ip4" or "ip6". It does not judge them: whoever
	// dials does, by Fence.Choose.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)

	// Close ends the network and everything that was opened on it.
	Close() error
}
