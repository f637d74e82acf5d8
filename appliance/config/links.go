package config

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/appliance/policy/yamlfile"
)

func (c *checker) checkDNS(servers []netip.Addr, path ...any) {
	for i, a := range servers {
		if a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			c.Fault(c.At(slices.Concat(path, []any{i})...), "", "%s cannot be a DNS server", a)
		}
	}
}

// maxQueues is what the parent can hand over with one link.
const maxQueues = 16

// checkLink checks the attachment at path, and that no NIC is used twice.
func (c *checker) checkLink(l *Link, path []any) {
	at := func(keys ...any) yamlfile.Position { return c.At(slices.Concat(path, []any{"link"}, keys)...) }
	if c.Has(slices.Concat(path, []any{"link", "queues"})...) {
		switch {
		case l.Kind == LinkNone: // which is a fault of its own
		case l.Kind != LinkPacket:
			c.Fault(at("queues"), "leave it out", "only a packet link has queues")
		case l.Queues < 1 || l.Queues > maxQueues:
			c.Fault(at("queues"), "leave it out for one for every two CPUs", "queues must be 1 to %d", maxQueues)
		}
	}
	kind, nic := string(l.Kind), l.Packet
	switch l.Kind {
	case LinkTap:
		nic = l.Tap
	case LinkWireGuard:
		c.checkWireGuard(&l.WireGuard, slices.Concat(path, []any{"link", "wireguard"}))
		return
	case LinkPacket:
	default:
		return
	}
	c.checkNIC(nic, l.Kind == LinkPacket, at(kind), dotted(path))
}

// checkNIC checks the name of a NIC, or where mac is so its MAC address, and that nothing else has it.
func (c *checker) checkNIC(nic string, mac bool, at yamlfile.Position, here string) {
	if mac && nicMAC.MatchString(nic) {
		nic = strings.ToLower(nic)
	} else if !nicName.MatchString(nic) || nic == "." || nic == ".." {
		c.Fault(at, "such as eth1", "%q is not the name of a network interface", nic)
		return
	}
	if there, taken := c.nics[nic]; taken {
		c.Fault(at, "give each its own, or listen on the vnet: listen: {vnet: …}", "interface %q is the link of %s too", nic, there)
	}
	c.nics[nic] = here
}

func dotted(path []any) string {
	words := make([]string, len(path))
	for i, step := range path {
		words[i], _ = step.(string)
	}
	return strings.Join(words, ".")
}

func (c *checker) checkWireGuard(w *WireGuard, path []any) {
	at := func(keys ...any) yamlfile.Position { return c.At(slices.Concat(path, keys)...) }
	if w.PrivateKeyFile == "" {
		c.Fault(at("private_key_file"), "wg genkey makes one", "the tunnel has no private_key_file")
	} else {
		c.path(&w.PrivateKeyFile, true, slices.Concat(path, []any{"private_key_file"})...)
	}
	if c.Has(slices.Concat(path, []any{"mtu"})...) && (w.MTU < 1280 || w.MTU > 9000) {
		c.Fault(at("mtu"), "1420 fits into Ethernet's 1500", "the tunnel's mtu must be 1280 to 9000")
	}
	if len(w.Peers) == 0 {
		c.Fault(at("peers"), "", "the tunnel has no peers")
	}
	w.Peers = slices.Clone(w.Peers)
	for i := range w.Peers {
		p := &w.Peers[i]
		if !c.Has(slices.Concat(path, []any{"peers", i, "public_key"})...) {
			c.Fault(at("peers", i), "", "the peer has no public_key")
		} else if slices.ContainsFunc(w.Peers[:i], func(q Peer) bool { return q.PublicKey == p.PublicKey }) {
			c.Fault(at("peers", i, "public_key"), "", "two peers have this public_key")
		}
		if len(p.Allowed) == 0 {
			c.Fault(at("peers", i), "such as allowed: [10.0.0.0/16]", "nothing lies behind the peer")
		}
		c.checkPrefixes(p.Allowed, slices.Concat(path, []any{"peers", i, "allowed"})...)
		if p.Endpoint != "" && !isEndpoint(p.Endpoint) {
			c.Fault(at("peers", i, "endpoint"), "such as vpn.example:51820", "endpoint %q is not a host and a port", p.Endpoint)
		}
		if p.Keepalive != 0 && (p.Keepalive%time.Second != 0 || p.Keepalive > 65535*time.Second) {
			c.Fault(at("peers", i, "keepalive"), "such as 25s", "keepalive must be whole seconds, 65535 at most")
		}
		if p.PresharedKeyFile != "" {
			c.path(&p.PresharedKeyFile, true, slices.Concat(path, []any{"peers", i, "preshared_key_file"})...)
		}
	}
}

func isEndpoint(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err == nil || dnsHost.MatchString(host)
}

// checkAddresses checks the appliance's own addresses on a link, and that it reaches its gateways.
func (c *checker) checkAddresses(l Link, a Addresses, gateways []netip.Addr, path []any) {
	at := func(keys ...any) yamlfile.Position { return c.At(slices.Concat(path, keys)...) }
	where := dotted(path)
	has := c.Has(slices.Concat(path, []any{"addresses"})...)
	switch {
	case l.Kind == LinkKernel && (has || len(gateways) > 0):
		c.Fault(at("addresses"), "leave addresses and gateway out", "%s has the kernel's addresses", where)
		return
	case l.Kind == LinkWireGuard && a.DHCP:
		c.Fault(at("addresses"), "list the addresses", "there is no DHCP in a WireGuard tunnel")
	case !has && l.Kind != LinkNone && l.Kind != LinkKernel:
		c.Fault(at("addresses"), "such as addresses: [10.0.0.4/24], or dhcp", "%s has no addresses", where)
	}
	for i := range a.Static {
		c.checkAddress(a.Static, i, at("addresses", i))
	}
	for i, g := range gateways {
		on := slices.ContainsFunc(a.Static, func(p netip.Prefix) bool { return p.Contains(g) })
		switch {
		case !g.IsValid():
		case slices.ContainsFunc(a.Static, func(p netip.Prefix) bool { return p.Addr() == g }):
			c.Fault(at("gateway", i), "", "gateway %s is the appliance's own address", g)
		case !on && len(a.Static) > 0 && !g.IsLinkLocalUnicast():
			c.Fault(at("gateway", i), "it must lie in the network of one of the addresses", "gateway %s is not on the link", g)
		case slices.ContainsFunc(gateways[:i], func(h netip.Addr) bool { return h.IsValid() && h.Is4() == g.Is4() }):
			c.Fault(at("gateway", i), "", "there is a gateway of this family already")
		}
	}
}

func (c *checker) checkAddress(all []netip.Prefix, i int, at yamlfile.Position) {
	p := all[i]
	a := p.Addr()
	switch {
	case !p.IsValid():
	case a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Is4In6():
		c.Fault(at, "", "%s cannot be the address of a machine on a network", a)
	case p.IsSingleIP():
	case a.Is4() && p.Bits() < 31 && (a == p.Masked().Addr() || a == broadcast(p)):
		c.Fault(at, "", "%s is the network's own address or its broadcast address", a)
	case slices.ContainsFunc(all[:i], func(q netip.Prefix) bool { return q.Addr() == a }):
		c.Fault(at, "", "address %s is there twice", a)
	}
}

// broadcast is the last address of an IPv4 network.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b)
}

func (c *checker) checkPrefixes(prefixes []netip.Prefix, path ...any) {
	for i, p := range prefixes {
		at := c.At(slices.Concat(path, []any{i})...)
		switch {
		case !p.IsValid():
		case p.Addr().Is4In6():
			c.Fault(at, "write it as IPv4", "%s is an IPv4 network in an IPv6 spelling", p)
		case p != p.Masked():
			c.Fault(at, "write "+p.Masked().String(), "%s has bits beyond its prefix length", p)
		case slices.Contains(prefixes[:i], p):
			c.Fault(at, "", "%s is there twice", p)
		}
	}
}

// inOneOf reports whether a lies in one of the prefixes, or may lie in one that could not be read.
func inOneOf(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return !p.IsValid() || p.Contains(a) })
}
