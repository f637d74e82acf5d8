package netstack

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
)

// Memory is a network without packets, for tests: whoever listens in it can be dialled in it, at any address. Its zero
// value is ready. Its connections keep to the same contract as a Stack's.
type Memory struct {
	// Hosts are the names that resolve.
	Hosts map[string][]netip.Addr

	// Fence, if set, is asked at each dial.
	Fence *Fence

	mu        sync.Mutex
	listeners map[string]*memoryListener // by "host:port"; host "" hears all
	conns     map[*memoryConn]bool
	ports     uint16
	closed    bool
}

var _ Network = (*Memory)(nil)

// DialContext connects to a listener.
func (m *Memory) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if ctx.Err() != nil {
		return nil, opError("dial", network, nil, nil, context.Cause(ctx))
	}
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return nil, opError("dial", network, nil, nil, net.UnknownNetworkError(network))
	}
	var dst netip.AddrPort
	var err error
	if m.Fence != nil {
		dst, err = target(ctx, m, *m.Fence, network, address)
	} else {
		dst, err = m.anywhere(ctx, network, address)
	}
	if err != nil {
		return nil, opError("dial", network, nil, nil, err)
	}
	near, far, l := m.connect(dst)
	if l == nil {
		return nil, opError("dial", network, nil, net.TCPAddrFromAddrPort(dst), syscall.ECONNREFUSED)
	}
	select {
	case l.queue <- far:
		return near, nil
	case <-l.done:
		err = syscall.ECONNREFUSED
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	near.Close()
	far.Close()
	return nil, opError("dial", network, nil, net.TCPAddrFromAddrPort(dst), err)
}

// anywhere is target without a fence.
func (m *Memory) anywhere(ctx context.Context, network, address string) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not a port", service)
	}
	addrs, err := m.LookupNetIP(ctx, ipNetwork(network), host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(addrs[0], uint16(port)), nil
}

// connect makes both ends of a connection to whoever listens at dst, nil if nobody does.
func (m *Memory) connect(dst netip.AddrPort) (near, far *memoryConn, l *memoryListener) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l = m.listeners[dst.String()]
	if l == nil {
		l = m.listeners[":"+strconv.Itoa(int(dst.Port()))]
	}
	if l == nil || m.closed {
		return nil, nil, nil
	}
	src := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), m.port())
	if dst.Addr().Is6() {
		src = netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), src.Port())
	}
	up, down := newPipe(), newPipe()
	near = &memoryConn{network: m, in: down, out: up, local: net.TCPAddrFromAddrPort(src), remote: net.TCPAddrFromAddrPort(dst)}
	far = &memoryConn{network: m, in: up, out: down, local: near.remote, remote: near.local}
	if m.conns == nil {
		m.conns = map[*memoryConn]bool{}
	}
	m.conns[near], m.conns[far] = true, true
	return near, far, l
}

// port draws the next port of our own.
func (m *Memory) port() uint16 {
	m.ports = firstPort + (m.ports-firstPort+1)%(lastPort-firstPort+1)
	return m.ports
}

// Listen accepts connections to an address, or to any if the host is empty; port 0 draws one.
func (m *Memory) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, opError("listen", network, nil, nil, err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, opError("listen", network, nil, nil, err)
	}
	at := netip.IPv4Unspecified()
	if host != "" {
		if at, err = netip.ParseAddr(host); err != nil {
			return nil, opError("listen", network, nil, nil, err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, opError("listen", network, nil, nil, net.ErrClosed)
	}
	if port == 0 {
		port = uint64(m.port())
	}
	key := net.JoinHostPort(host, strconv.Itoa(int(port)))
	addr := net.TCPAddrFromAddrPort(netip.AddrPortFrom(at, uint16(port)))
	if m.listeners[key] != nil {
		return nil, opError("listen", network, nil, addr, syscall.EADDRINUSE)
	}
	if m.listeners == nil {
		m.listeners = map[string]*memoryListener{}
	}
	l := &memoryListener{network: m, key: key, addr: addr, queue: make(chan *memoryConn), done: make(chan struct{})}
	m.listeners[key] = l
	return l, nil
}

// ListenPacket is not there: nothing that is tested in memory sends datagrams.
func (m *Memory) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	return nil, opError("listen", network, nil, nil, net.UnknownNetworkError(network))
}

// LookupNetIP knows Hosts, and addresses.
func (m *Memory) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	addr, isAddress, err := ParseAddr(host)
	if err != nil {
		return nil, &LookupError{Host: host, Err: err}
	}
	if isAddress {
		return []netip.Addr{addr}, nil
	}
	all, ok := m.Hosts[host]
	if !ok {
		return nil, &LookupError{Host: host, Err: ErrNoSuchHost}
	}
	var some []netip.Addr
	for _, a := range all {
		if network == "ip" || a.Is4() == (network == "ip4") {
			some = append(some, a)
		}
	}
	if len(some) == 0 {
		return nil, &LookupError{Host: host, Err: ErrNoData}
	}
	return some, nil
}

// Close ends all listeners and connections.
func (m *Memory) Close() error {
	m.mu.Lock()
	m.closed = true
	var all []io.Closer
	for _, l := range m.listeners {
		all = append(all, l)
	}
	for c := range m.conns {
		all = append(all, c)
	}
	m.mu.Unlock()
	for _, c := range all {
		c.Close()
	}
	return nil
}

type memoryListener struct {
	network *Memory
	key     string
	addr    net.Addr
	queue   chan *memoryConn
	closing sync.Once
	done    chan struct{}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, opError("accept", "tcp", nil, l.addr, net.ErrClosed)
	}
}

func (l *memoryListener) Close() error {
	l.closing.Do(func() {
		close(l.done)
		l.network.mu.Lock()
		defer l.network.mu.Unlock()
		delete(l.network.listeners, l.key)
	})
	return nil
}

func (l *memoryListener) Addr() net.Addr { return l.addr }
