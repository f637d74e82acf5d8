package main

import (
	"errors"
	"net/netip"

	"sallyport/appliance"
	"sallyport/appliance/config"
	"sallyport/host"
	"sallyport/netstack"
	"sallyport/netstack/link"
)

// network is an attached VNet.
type network interface {
	appliance.VNet
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

// attach makes a VNet's network of the link that the parent gave.
func attach(name string, v config.VNet, given *host.Link) (network, error) {
	open := link.Packet
	if given.Kind == host.TAP {
		open = link.Tap
	}
	l, err := open(given.File, link.Options{MAC: given.MAC, MTU: given.MTU})
	if err != nil {
		return nil, err
	}
	stack, err := netstack.New(netstack.Config{Name: name, Link: l, Addresses: v.Addresses.Static, Gateways: v.Gateway,
		Prefixes: v.Prefixes, Deny: v.Deny, DNS: servers(v.DNS)})
	if err != nil {
		l.Close()
		return nil, err
	}
	return fenced{stack, stack.Fence()}, nil
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
