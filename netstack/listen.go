package netstack

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// backlog is how many connections may wait to be accepted; beyond it the stack answers with SYN cookies.
const backlog = 1024

// Listen accepts TCP connections on a port that Config.Serve names; without one, nothing ever listens.
func (s *Stack) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil, opError("listen", network, nil, nil, net.UnknownNetworkError(network))
	}
	proto, at, err := s.served(network, address)
	if err != nil {
		return nil, opError("listen", network, nil, nil, err)
	}
	wq := new(waiter.Queue)
	ep, terr := s.stack.NewEndpoint(tcp.ProtocolNumber, proto, wq)
	if terr != nil {
		return nil, opError("listen", network, nil, nil, osError(terr))
	}
	l := &listener{stack: s}
	l.init("tcp", ep, wq)
	l.local = tcpAddr(at)
	if terr = ep.Bind(at); terr == nil {
		terr = ep.Listen(backlog)
	}
	if terr != nil {
		l.Close()
		return nil, opError("listen", network, nil, l.local, osError(terr))
	}
	return l, nil
}

// ListenPacket receives UDP on a port that Config.Serve names.
func (s *Stack) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	if network != "udp" && network != "udp4" && network != "udp6" {
		return nil, opError("listen", network, nil, nil, net.UnknownNetworkError(network))
	}
	proto, at, err := s.served(network, address)
	if err != nil {
		return nil, opError("listen", network, nil, nil, err)
	}
	c, err := s.openUDP(proto, &at, nil)
	if err != nil {
		return nil, opError("listen", network, nil, udpAddr(at), err)
	}
	return c, nil
}

// served is where a listener is to stand: a port that the configuration serves, and one of our addresses or, for both
// families, none.
func (s *Stack) served(network, address string) (tcpip.NetworkProtocolNumber, tcpip.FullAddress, error) {
	at := tcpip.FullAddress{NIC: nicID}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return 0, at, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || !s.guard.serve[uint16(port)] {
		return 0, at, fmt.Errorf("port %s is not served here: %w", service, syscall.EACCES)
	}
	at.Port = uint16(port)
	if host == "" {
		if ipNetwork(network) == "ip4" {
			return header.IPv4ProtocolNumber, at, nil
		}
		return header.IPv6ProtocolNumber, at, nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return 0, at, err
	}
	addr = addr.Unmap()
	at.Addr = tcpip.AddrFromSlice(addr.AsSlice())
	return protocolOf(addr), at, nil
}

// A listener hands out connections as they are made.
type listener struct {
	socket
	stack *Stack
}

// Accept is net.Listener's.
func (l *listener) Accept() (net.Conn, error) {
	for {
		if isClosed(l.closed) {
			return nil, l.opError("accept", net.ErrClosed)
		}
		ep, wq, err := l.ep.Accept(nil)
		if err == nil {
			ring(l.wake.readable) // there may be more, for another caller
			c := l.stack.newConn(ep, wq)
			c.named()
			if err := l.stack.keepalive(ep); err != nil {
				c.Abort()
				return nil, l.opError("accept", err)
			}
			return c, nil
		}
		if !wouldBlock(err) {
			return nil, l.opError("accept", osError(err))
		}
		select {
		case <-l.wake.readable:
		case <-l.closed:
		}
	}
}

// Addr is where the listener stands.
func (l *listener) Addr() net.Addr { return l.local }
