package netstack

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// KernelConfig describes a network that is the host's own.
type KernelConfig struct {
	Prefixes []netip.Prefix   // what flows may reach
	Deny     []netip.Prefix   // adds to the compiled-in denials
	DNS      []netip.AddrPort // servers; without any, the host's resolver is asked

	ConnectTimeout time.Duration // default 10 seconds
}

// A kernel is the make of a Network that uses the host's sockets. It has the fence, and no second check behind it.
type kernel struct {
	fence    Fence
	resolver *Resolver // nil for the host's
	timeout  time.Duration
}

// Kernel returns a network over the host's sockets, for trying out. Every address of the host counts as the
// appliance's own, so nobody gets at its other services.
func Kernel(c KernelConfig) Network {
	k := &kernel{fence: Fence{Prefixes: masked(c.Prefixes), Deny: masked(c.Deny)}, timeout: c.ConnectTimeout}
	if k.timeout == 0 {
		k.timeout = 10 * time.Second
	}
	if len(c.DNS) > 0 {
		k.resolver = &Resolver{Servers: c.DNS, Dial: new(net.Dialer).DialContext}
	}
	return k
}

// here is the fence with the host's addresses of this moment.
func (k *kernel) here() (Fence, error) {
	f := k.fence
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return f, fmt.Errorf("the host's addresses: %w", err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				bits, _ := n.Mask.Size()
				f.Own = append(f.Own, netip.PrefixFrom(addr.Unmap(), bits))
			}
		}
	}
	return f, nil
}

func (k *kernel) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	f, err := k.here()
	if err != nil {
		return nil, opError("dial", network, nil, nil, err)
	}
	dst, err := target(ctx, k, f, network, address)
	if err != nil {
		return nil, opError("dial", network, nil, nil, err)
	}
	d := net.Dialer{
		Timeout:         k.timeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3},
		// What is about to be dialled is what was checked, or nothing is.
		ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
			if got, err := netip.ParseAddrPort(address); err != nil || unmap(got) != dst {
				return fmt.Errorf("%s is not what was checked", address)
			}
			return nil
		},
	}
	return d.DialContext(ctx, network, dst.String())
}

func (k *kernel) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, network, address)
}

func (k *kernel) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	return new(net.ListenConfig).ListenPacket(ctx, network, address)
}

func (k *kernel) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	if k.resolver != nil {
		return k.resolver.LookupNetIP(ctx, network, host)
	}
	start := time.Now()
	addr, isAddress, err := ParseAddr(host)
	if err != nil {
		return nil, &LookupError{Host: host, Took: time.Since(start), Err: err}
	}
	if isAddress {
		return []netip.Addr{addr}, nil
	}
	name, err := asciiName(host)
	if err != nil {
		return nil, &LookupError{Host: host, Took: time.Since(start), Err: err}
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, network, name+".") // the dot keeps search paths out
	if err != nil {
		return nil, &LookupError{Host: host, Took: time.Since(start), Err: hostError(err)}
	}
	return slices.Clip(addrs), nil
}

// hostError says what the host's resolver said in this package's terms.
func hostError(err error) error {
	dns, ok := err.(*net.DNSError)
	switch {
	case ok && dns.IsNotFound:
		return ErrNoSuchHost
	case ok && dns.IsTimeout:
		return ErrServerSilent
	}
	return err
}

// Close leaves what was opened to whoever opened it.
func (k *kernel) Close() error { return nil }
