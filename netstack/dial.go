package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// DialContext connects a flow, by "tcp" or "udp". The host is an address in any spelling, or a name, of whose
// addresses Fence.Choose picks one.
func (s *Stack) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	s.counts.dials.Add(1)
	if err := s.Err(); err != nil { // before a name is asked for, which would only take longer
		return nil, opError("dial", network, nil, nil, err)
	}
	dst, err := target(ctx, s, s.Fence(), network, address)
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
	c := s.newConn(ep, wq)
	err := s.Err() // what ends all connections from now on sees this one
	if err == nil {
		err = s.shakeHands(ctx, c, dst)
	}
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
			if why := c.why.Load(); why != nil {
				return *why
			}
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
