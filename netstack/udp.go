package netstack

import (
	"bytes"
	"errors"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A packetConn is a UDP socket of a stack: a net.Conn if it was dialled, a net.PacketConn in any case.
type packetConn struct{ socket }

// openUDP makes a socket; with a destination it is connected.
func (s *Stack) openUDP(proto tcpip.NetworkProtocolNumber, bind, connect *tcpip.FullAddress) (*packetConn, error) {
	wq := new(waiter.Queue)
	ep, err := s.stack.NewEndpoint(udp.ProtocolNumber, proto, wq)
	if err != nil {
		return nil, osError(err)
	}
	c := new(packetConn)
	c.init("udp", ep, wq)
	if bind != nil {
		err = ep.Bind(*bind)
	}
	if connect != nil && err == nil {
		err = ep.Connect(*connect)
		c.remote = udpAddr(*connect)
	}
	if err != nil {
		c.Close()
		return nil, osError(err)
	}
	if a, err := ep.GetLocalAddress(); err == nil {
		c.local = udpAddr(a)
	}
	return c, nil
}

func (s *Stack) dialUDP(dst netip.AddrPort) (*packetConn, error) {
	return s.openUDP(protocolOf(dst.Addr()), nil, &tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(dst.Addr().AsSlice()), Port: dst.Port()})
}

// Read reads one datagram, and drops what of it does not fit.
func (c *packetConn) Read(p []byte) (int, error) {
	n, _, err := c.ReadFrom(p)
	return n, err
}

// ReadFrom reads one datagram, and drops what of it does not fit.
func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		due := c.readBy.passed()
		if err := c.ended(due); err != nil {
			return 0, nil, c.opError("read", err)
		}
		dst := tcpip.SliceWriter(p)
		got, err := c.ep.Read(&dst, tcpip.ReadOptions{NeedRemoteAddr: true})
		if err == nil {
			ring(c.wake.readable) // there may be more, for another reader
			return got.Count, udpAddr(got.RemoteAddr), nil
		}
		if !wouldBlock(err) {
			return 0, nil, c.opError("read", osError(err))
		}
		select {
		case <-c.wake.readable:
		case <-c.closed:
		case <-due:
		}
	}
}

// Write sends one datagram to the peer that was dialled.
func (c *packetConn) Write(p []byte) (int, error) { return c.send(p, nil) }

// WriteTo sends one datagram to a *net.UDPAddr.
func (c *packetConn) WriteTo(p []byte, to net.Addr) (int, error) {
	a, ok := to.(*net.UDPAddr)
	if !ok || a.AddrPort().Addr().Zone() != "" {
		return 0, c.opError("write", errors.New("not a UDP address"))
	}
	dst := unmap(a.AddrPort())
	return c.send(p, &tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFromSlice(dst.Addr().AsSlice()), Port: dst.Port()})
}

func (c *packetConn) send(p []byte, to *tcpip.FullAddress) (int, error) {
	for {
		due := c.writeBy.passed()
		if err := c.ended(due); err != nil {
			return 0, c.opError("write", err)
		}
		n, err := c.ep.Write(bytes.NewReader(p), tcpip.WriteOptions{To: to})
		if err == nil {
			return int(n), nil
		}
		if !wouldBlock(err) {
			return 0, c.opError("write", osError(err))
		}
		select {
		case <-c.wake.writable:
		case <-c.closed:
		case <-due:
		}
	}
}
