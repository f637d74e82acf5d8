package link

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/net/ipv4"
	"golang.zx2c4.com/wireguard/conn"
)

// A bind is the socket below a WireGuard device. It was opened by somebody else, and is closed with the device.
type bind struct {
	conn   net.PacketConn
	tunnel *tunnel
	many   *ipv4.PacketConn // where the system moves many datagrams a call; it does IPv6 as well
	opened bool
	last   *endpoint // of the last datagram; only the receiver touches it
	in     []ipv4.Message
	pool   sync.Pool   // of *[]ipv4.Message, to send
	cuts   atomic.Bool // the kernel cuts one write into many datagrams
}

func newBind(c net.PacketConn, t *tunnel) *bind {
	b := &bind{conn: c, tunnel: t}
	if u, ok := c.(*net.UDPConn); ok && runtime.GOOS == "linux" {
		b.many, b.in = ipv4.NewPacketConn(u), newMessagesOf(wireGuardBatch)
		b.cuts.Store(cutsDatagrams(u))
		b.pool.New = func() any {
			m := newMessagesOf(wireGuardBatch)
			return &m
		}
	}
	return b
}

func newMessagesOf(n int) []ipv4.Message {
	m := make([]ipv4.Message, n)
	for i := range m {
		m[i].Buffers, m[i].OOB = make([][]byte, 1), make([]byte, 0, controlSize)
	}
	return m
}

// Open begins to receive. The port is what it is.
func (b *bind) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	if b.opened {
		return nil, 0, conn.ErrBindAlreadyOpen
	}
	b.opened = true
	port := uint16(0)
	if at, ok := b.conn.LocalAddr().(*net.UDPAddr); ok {
		port = uint16(at.Port)
	}
	return []conn.ReceiveFunc{b.receive}, port, nil
}

// Close ends receiving for good. The device calls it once too often: before it calls Open.
func (b *bind) Close() error {
	if !b.opened {
		return nil
	}
	return b.conn.Close()
}

func (b *bind) receive(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	b.tunnel.inside.wait(b.tunnel.closed)
	n, err := b.read(packets, sizes, eps)
	if err == nil {
		b.tunnel.inside.enter(n)
		return n, nil
	}
	if !errors.Is(err, net.ErrClosed) {
		b.tunnel.failed(err)
	}
	return 0, net.ErrClosed
}

func (b *bind) read(packets [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	if b.many == nil {
		n, from, err := b.conn.ReadFrom(packets[0])
		if err != nil {
			return 0, err
		}
		sizes[0], eps[0] = n, b.from(from)
		return 1, nil
	}
	for i := range packets {
		b.in[i].Buffers[0] = packets[i]
	}
	n, err := b.many.ReadBatch(b.in[:len(packets)], 0)
	for i := range max(n, 0) {
		sizes[i], eps[i] = b.in[i].N, b.from(b.in[i].Addr)
	}
	return n, err
}

// from is the endpoint of a datagram's sender, the same one again if it is the last datagram's.
func (b *bind) from(a net.Addr) conn.Endpoint {
	at := a.(*net.UDPAddr).AddrPort()
	at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	if b.last == nil || b.last.AddrPort != at {
		b.last = newEndpoint(at)
	}
	return b.last
}

// Send sends datagrams to one peer. What the socket does not take is lost, as on any network: the tunnel's timers and
// the TCP inside it will notice.
func (b *bind) Send(bufs [][]byte, to conn.Endpoint) error {
	at, ok := to.(*endpoint)
	if !ok {
		return conn.ErrWrongEndpointType
	}
	defer b.tunnel.outside.leave(len(bufs))
	if b.many == nil {
		for _, p := range bufs {
			if _, err := b.conn.WriteTo(p, at.udp); err != nil {
				b.tunnel.lost.tx.Add(1)
			}
		}
		return nil
	}
	pooled := b.pool.Get().(*[]ipv4.Message)
	all := *pooled
	defer func() {
		for i := range all { // the device's memory is not ours to keep
			clear(all[i].Buffers)
			all[i].Addr = nil
		}
		b.pool.Put(pooled)
	}()
	for len(bufs) > 0 {
		cut := b.cuts.Load()
		n, err := b.many.WriteBatch(pack(all, bufs, at, cut), 0)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil && cut && refusesToCut(err) {
			b.cuts.Store(false)
			continue
		}
		if err != nil || n < 1 { // the first of them it was that failed
			b.tunnel.lost.tx.Add(uint64(len(all[0].Buffers)))
			n = 1
		}
		for _, m := range all[:n] {
			bufs = bufs[len(m.Buffers):]
		}
	}
	return nil
}

// One write may be cut into so many datagrams, of so many bytes together. The numbers are the kernel's.
const cutDatagrams, cutBytes = 64, 65000

// pack makes messages of datagrams: one for each, or, where the kernel cuts, one for as many of the same size as there
// are in a row, of which the last may be shorter. Measured on loopback, both ends in one process, that is 18 % more at the
// median of 64 rounds.
func pack(all []ipv4.Message, bufs [][]byte, to *endpoint, cut bool) []ipv4.Message {
	n := 0
	for len(bufs) > 0 && n < len(all) {
		m, size, bytes, count := &all[n], len(bufs[0]), 0, 0
		for _, p := range bufs {
			if count > 0 && (!cut || len(p) > size || bytes+len(p) > cutBytes || count == cutDatagrams) {
				break
			}
			bytes += len(p)
			count++
			if len(p) < size {
				break
			}
		}
		m.Buffers, m.OOB, m.Addr = append(m.Buffers[:0], bufs[:count]...), m.OOB[:0], to.udp
		if count > 1 {
			m.OOB = m.OOB[:controlSize]
			segmentControl(m.OOB, size)
		}
		bufs = bufs[count:]
		n++
	}
	return all[:n]
}

// SetMark is not used.
func (b *bind) SetMark(uint32) error { return nil }

// BatchSize is how many datagrams one call moves.
func (b *bind) BatchSize() int { return wireGuardBatch }

// ParseEndpoint reads an address and port.
func (b *bind) ParseEndpoint(s string) (conn.Endpoint, error) {
	at, err := netip.ParseAddrPort(s)
	if err != nil {
		return nil, err
	}
	return newEndpoint(netip.AddrPortFrom(at.Addr().Unmap(), at.Port())), nil
}

// An endpoint is where a peer is. Our own address is the kernel's choice for each datagram.
type endpoint struct {
	netip.AddrPort
	udp *net.UDPAddr
}

func newEndpoint(at netip.AddrPort) *endpoint { return &endpoint{at, net.UDPAddrFromAddrPort(at)} }

func (e *endpoint) ClearSrc()           {}
func (e *endpoint) SrcToString() string { return "" }
func (e *endpoint) SrcIP() netip.Addr   { return netip.Addr{} }
func (e *endpoint) DstIP() netip.Addr   { return e.Addr() }
func (e *endpoint) DstToString() string { return e.String() }
func (e *endpoint) DstToBytes() []byte {
	b, _ := e.MarshalBinary()
	return b
}
