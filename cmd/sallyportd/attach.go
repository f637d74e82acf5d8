package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"sallyport/appliance"
	"sallyport/appliance/config"
	"sallyport/netstack"
	"sallyport/netstack/dhcp"
	"sallyport/netstack/link"
)

// network is an attached VNet.
type network interface {
	appliance.VNet
	outlet
	Close() error
}

// fenced is a network with the fence that chooses what is dialled in it.
type fenced struct {
	netstack.Network
	fence netstack.Fence
}

func (f fenced) Choose(addrs []netip.Addr) (netip.Addr, error) { return f.fence.Choose(addrs) }

// kernelNetwork is a VNet that is the host's own network.
func kernelNetwork(v config.VNet) network {
	return fenced{
		netstack.Kernel(netstack.KernelConfig{Prefixes: v.Prefixes, Deny: v.Deny, DNS: servers(v.DNS)}),
		netstack.Fence{Prefixes: v.Prefixes, Deny: v.Deny},
	}
}

// A vnet is a VNet that has a stack in this process: one for as long as its link lasts, and another after that.
type vnet struct {
	name   string
	config config.VNet
	serve  serving
	log    *slog.Logger
	open   func() (opened, error)          // the link, from whoever holds it
	relink func(ctx context.Context) error // has a fresh one made; nil: open does

	mu    sync.Mutex
	stack *netstack.Stack // the last one; it may be closed
	why   error           // there is no stack

	stop context.CancelFunc
	wg   sync.WaitGroup
}

// opened is a link and, for DHCP, the way past its stack.
type opened struct {
	link  link.Link
	dhcp  dhcp.Conn
	mac   net.HardwareAddr
	close func() error // of what DHCP goes over
}

// A link that ends is asked for again, at once and then ever less often.
const firstRelink, lastRelink = 250 * time.Millisecond, 30 * time.Second

// start attaches the VNet and keeps it attached. It waits until leased for the first lease of a VNet that has its
// address by DHCP; without one the VNet is served all the same, and refuses flows until there is one. A link that
// cannot be had now is tried again.
func (v *vnet) start(leased time.Time) error {
	ctx, stop := context.WithCancel(context.Background())
	v.stop = stop
	s, first, err := v.attach(ctx)
	var unopened *linkError
	if err != nil && !errors.As(err, &unopened) {
		stop()
		return err
	}
	if err != nil {
		v.log.Error("the VNet's link is not there", "vnet", v.name, "cause", err)
	} else if v.config.Addresses.DHCP {
		late := time.NewTimer(time.Until(leased))
		defer late.Stop()
		select {
		case <-first:
		case <-s.Done():
		case <-late.C:
			v.log.Warn("the VNet has no address yet; flows into it are refused until a DHCP server answers", "vnet", v.name)
		}
	}
	v.wg.Go(func() { v.keep(ctx, s) })
	return nil
}

// keep waits for the end of one stack after the other, and makes the next.
func (v *vnet) keep(ctx context.Context, s *netstack.Stack) {
	delay := firstRelink
	for ctx.Err() == nil {
		if s != nil {
			begun := time.Now()
			select {
			case <-ctx.Done():
			case <-s.Done():
				v.log.Error("the VNet's link has ended", "vnet", v.name, "cause", s.Err())
			}
			s.Close()
			if time.Since(begun) > lastRelink { // one that ends at once again is not to be asked for at once again
				delay = firstRelink
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		s = v.again(ctx)
		delay = min(2*delay, lastRelink)
	}
	if s != nil {
		s.Close()
	}
}

// again asks for another link and attaches it, or returns nil.
func (v *vnet) again(ctx context.Context) *netstack.Stack {
	var err error
	if v.relink != nil {
		err = v.relink(ctx)
	}
	var s *netstack.Stack
	if err == nil {
		s, _, err = v.attach(ctx)
	}
	if err != nil {
		v.log.Warn("the VNet's link is not back", "vnet", v.name, "cause", err)
		return nil
	}
	v.log.Info("the VNet's link is back", "vnet", v.name)
	return s
}

// A linkError is that a link could not be opened.
type linkError struct{ err error }

func (e *linkError) Error() string { return e.err.Error() }
func (e *linkError) Unwrap() error { return e.err }

// attach makes a stack on the link. The channel is closed when the stack has an address.
func (v *vnet) attach(ctx context.Context) (*netstack.Stack, <-chan struct{}, error) {
	o, err := v.open()
	if err != nil {
		err = &linkError{err}
		v.publish(nil, netstack.ErrLinkDown) // the cause is for the log
		return nil, nil, err
	}
	s, err := netstack.New(netstack.Config{Name: v.name, Link: o.link, Dynamic: v.config.Addresses.DHCP, Addresses: v.config.Addresses.Static,
		Gateways: v.config.Gateway, Prefixes: v.config.Prefixes, Deny: v.config.Deny, DNS: servers(v.config.DNS), Serve: v.serve.ports, Balanced: v.serve.balanced})
	if err != nil {
		if o.close != nil {
			o.close()
		}
		return nil, nil, err
	}
	v.publish(s, nil)
	first := make(chan struct{})
	if o.dhcp == nil {
		close(first)
	} else {
		v.wg.Go(func() { v.lease(ctx, s, o, first) })
	}
	return s, first, nil
}

func (v *vnet) publish(s *netstack.Stack, why error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stack, v.why = s, why
}

// lease gives the stack the addresses that a DHCP server gives, until its link ends.
func (v *vnet) lease(ctx context.Context, s *netstack.Stack, o opened, first chan<- struct{}) {
	if o.close != nil {
		defer o.close()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	v.wg.Go(func() {
		select {
		case <-s.Done():
			cancel()
		case <-ctx.Done():
		}
	})
	told := sync.OnceFunc(func() { close(first) })
	err := dhcp.Client{Conn: o.dhcp, MAC: o.mac}.Run(ctx, func(l *dhcp.Lease, why error) {
		if l == nil {
			v.readdress(s, netstack.Addressing{Why: fmt.Errorf("%w: %w", netstack.ErrAddressLost, why)})
			v.log.Warn("the VNet has no address any more", "vnet", v.name, "cause", why)
			return
		}
		a := v.addressing(*l, o.link.MTU())
		v.readdress(s, a)
		v.log.Info("the VNet has an address by DHCP", "vnet", v.name, "address", l.Address, "gateway", a.Gateways, "dns", a.DNS, "mtu", l.MTU,
			"server", l.Server, "lease", l.Length)
		told()
	})
	if ctx.Err() == nil {
		v.readdress(s, netstack.Addressing{Why: fmt.Errorf("%w: %w", netstack.ErrAddressLost, err)})
		v.log.Error("DHCP has ended", "vnet", v.name, "cause", err)
	}
}

func (v *vnet) readdress(s *netstack.Stack, a netstack.Addressing) {
	if err := s.Readdress(a); err != nil {
		v.log.Error("the VNet's addresses are not taken", "vnet", v.name, "cause", err)
	}
}

// addressing is a lease as a stack takes it. What the configuration says comes before what the server says; an MTU may
// only be smaller than the NIC's, and not so small that IPv6 could not pass.
func (v *vnet) addressing(l dhcp.Lease, mtu uint32) netstack.Addressing {
	a := netstack.Addressing{Addresses: []netip.Prefix{l.Address}, Gateways: v.config.Gateway, DNS: servers(v.config.DNS)}
	if len(a.Gateways) == 0 && l.Router.IsValid() {
		a.Gateways = []netip.Addr{l.Router}
	}
	if len(a.DNS) == 0 {
		a.DNS = servers(l.DNS)
	}
	if l.MTU >= 1280 && l.MTU <= int(mtu) {
		a.MTU = l.MTU
	}
	return a
}

// now is the stack, or why there is none.
func (v *vnet) now() (*netstack.Stack, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stack, v.why
}

// DialContext connects a flow. Why the VNet as a whole is not reached it says without the words about the connection,
// which is not what has failed.
func (v *vnet) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	s, err := v.now()
	if err != nil {
		return nil, err
	}
	c, err := s.DialContext(ctx, network, address)
	var wrapped *net.OpError
	if errors.As(err, &wrapped) {
		for _, whole := range []error{netstack.ErrLinkDown, netstack.ErrNoAddressYet, netstack.ErrAddressLost} {
			if errors.Is(err, whole) {
				return nil, wrapped.Err
			}
		}
	}
	return c, err
}

// LookupNetIP asks the VNet's DNS.
func (v *vnet) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	s, err := v.now()
	if err != nil {
		return nil, err
	}
	return s.LookupNetIP(ctx, network, host)
}

// Choose picks the address to dial.
func (v *vnet) Choose(addrs []netip.Addr) (netip.Addr, error) {
	s, err := v.now()
	if err != nil { // nothing will be dialled
		return netstack.Fence{Prefixes: v.config.Prefixes, Deny: v.config.Deny}.Choose(addrs)
	}
	return s.Fence().Choose(addrs)
}

// Stats are those of the stack that there is now.
func (v *vnet) Stats() netstack.Stats {
	s, err := v.now()
	if err != nil {
		return netstack.Stats{Name: v.name}
	}
	return s.Stats()
}

// Close takes the stack off its link.
func (v *vnet) Close() error {
	v.stop()
	v.wg.Wait()
	return nil
}

func servers(addrs []netip.Addr) []netip.AddrPort {
	list := make([]netip.AddrPort, len(addrs))
	for i, a := range addrs {
		list[i] = netip.AddrPortFrom(a, 53)
	}
	return list
}

// addressSyntax and alwaysForbidden are the fence's knowledge, for the policy.
func addressSyntax(s string) (netip.Addr, bool, error) { return netstack.ParseAddr(s) }

var anywhere = netstack.Fence{Prefixes: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}

func alwaysForbidden(a netip.Addr) error {
	var denied *netstack.DeniedError
	if err := anywhere.Check(a); errors.As(err, &denied) && denied.Always {
		return err
	}
	return nil
}
