package config

import (
	"net/netip"
	"slices"
)

func (c *checker) checkVNets() {
	if len(c.VNets) == 0 {
		c.Fault(c.At("vnets"), "such as vnets: {hub: {link: {packet: eth1}, …}}", "there is no vnet")
	}
	vnets := make(map[string]VNet, len(c.VNets))
	for _, name := range c.names() { // in one order, so that "twice" always names the same one
		v := c.VNets[name]
		c.checkVNet(name, &v)
		vnets[name] = v
	}
	c.VNets = vnets
}

func (c *checker) names() (names []string) {
	for name := range c.VNets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (c *checker) checkVNet(name string, v *VNet) {
	at := c.KeyAt("vnets", name)
	switch {
	case !vnetName.MatchString(name):
		c.Fault(at, "", "vnet name %q must be 1 to 32 of a-z, 0-9 and -", name)
	case name == "kernel" || name == "listen":
		c.Fault(at, "choose another", "vnet name %q has a meaning of its own under uplink", name)
	}
	path := []any{"vnets", name}
	if !c.Has("vnets", name, "link") {
		c.Fault(at, "such as link: {packet: eth1}", "vnet %q has no link", name)
	}
	c.checkLink(&v.Link, path)
	c.checkAddresses(v.Link, v.Addresses, v.Gateway, path)
	if len(v.Prefixes) == 0 {
		c.Fault(at, "list the networks that flows may go to, such as [10.0.0.0/16]", "vnet %q has no prefixes", name)
	}
	c.checkPrefixes(v.Prefixes, append(path, "prefixes")...)
	c.checkPrefixes(v.Deny, append(path, "deny")...)
	for i, p := range v.Prefixes {
		if a := p.Addr(); p.IsValid() && (a.IsLoopback() && v.Link.Kind != LinkKernel || a.IsLinkLocalUnicast() || a.IsMulticast()) {
			c.Fault(c.At("vnets", name, "prefixes", i), "leave it out", "flows can never go to %s: loopback, link-local and multicast addresses are denied", p)
		}
	}
	for i, p := range v.Addresses.Static {
		if p.IsValid() && len(v.Prefixes) > 0 && v.Link.Kind != LinkWireGuard && !inOneOf(v.Prefixes, p.Addr()) {
			c.Fault(c.At("vnets", name, "addresses", i), "add its network to prefixes or mend it", "address %s lies in none of the prefixes of vnet %q", p.Addr(), name)
		}
	}
	c.checkDNS(v.DNS, append(path, "dns")...)
	if v.Link.Kind == LinkWireGuard {
		c.checkBehindPeers(name, v)
	}
}

// checkBehindPeers checks that what is to be reached by a tunnel lies behind one of its peers.
func (c *checker) checkBehindPeers(name string, v *VNet) {
	const hint = "add it to allowed of the peer that it lies behind"
	var allowed []netip.Prefix
	for _, p := range v.Link.WireGuard.Peers {
		allowed = append(allowed, p.Allowed...)
	}
	if len(allowed) == 0 {
		return // which is a fault of its own
	}
	for i, p := range v.Prefixes {
		if p.IsValid() && !slices.ContainsFunc(allowed, func(a netip.Prefix) bool { return !a.IsValid() || a.Bits() <= p.Bits() && a.Contains(p.Addr()) }) {
			c.Fault(c.At("vnets", name, "prefixes", i), hint, "no peer is allowed all of %s", p)
		}
	}
	for i, a := range v.DNS {
		if a.IsValid() && !inOneOf(allowed, a) {
			c.Fault(c.At("vnets", name, "dns", i), hint, "no peer is allowed %s", a)
		}
	}
}
