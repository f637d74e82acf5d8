package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"sallyport/appliance/policy/spell"
)

// checkBalanced: it is an address that people can come to, and none of the stack's own.
func (c *checker) checkBalanced(own Addresses) {
	a := c.Listen.Balanced
	switch {
	case !c.Has("listen", "balanced") || !a.IsValid():
	case !a.IsGlobalUnicast() || a.Is4In6() || a.Zone() != "":
		c.Fault(c.At("listen", "balanced"), "it is where people come to", "%v is not the address of a load balancer", a)
	case slices.ContainsFunc(own.Static, func(p netip.Prefix) bool { return p.Addr() == a }):
		c.Fault(c.At("listen", "balanced"), "leave it out", "%v is the appliance's own address already", a)
	}
}

func (c *checker) checkListen() {
	forms := 0
	for _, key := range []string{"address", "vnet", "link"} {
		if c.Has("listen", key) {
			forms++
		}
	}
	l := &c.Listen
	switch {
	case forms > 1:
		c.Fault(c.KeyAt("listen"), "", "listen must have one of address, vnet and link")
		return
	case c.Has("listen", "link"):
		c.checkLink(&l.Link, []any{"listen"})
		c.checkAddresses(l.Link, l.Addresses, l.Gateway, []any{"listen"})
		if l.Link.Kind == LinkKernel || l.Link.Kind == LinkWireGuard {
			c.Fault(c.At("listen", "link"), "use packet or tap; for the kernel's sockets listen: {address: …}", "people cannot come in by a %s link", l.Link.Kind)
		}
		c.checkDNS(l.DNS, "listen", "dns")
		c.checkBalanced(l.Addresses)
		c.only("listen", "link", "addresses", "gateway", "dns", "port", "balanced")
	case c.Has("listen", "vnet"):
		if _, known := c.VNets[l.VNet]; !known {
			c.Fault(c.At("listen", "vnet"), spell.DidYouMean(l.VNet, c.names(), "the vnets are "+strings.Join(c.names(), ", ")), "there is no vnet %q", l.VNet)
		} else if kind := c.VNets[l.VNet].Link.Kind; kind == LinkKernel {
			c.Fault(c.At("listen", "vnet"), "use listen: {address: …}", "vnet %q has the kernel's stack", l.VNet)
		}
		c.checkBalanced(c.VNets[l.VNet].Addresses)
		c.only("listen", "vnet", "port", "balanced")
	default:
		if !parseHostPort(l.Address) {
			c.Fault(c.At("listen", "address"), `such as ":443" or "192.0.2.1:443"`, "listen.address is %q, which is not an address and a port", l.Address)
		}
		c.checkPrefixes(l.ProxyProtocol, "listen", "proxy_protocol")
		c.only("listen", "address", "proxy_protocol")
	}
	if c.Text("listen", "port") == "0" { // withDefaults has replaced it
		c.Fault(c.At("listen", "port"), "", "listen.port is 0; a port is 1 to 65535")
	}
}

// only notes the keys of a mapping that do not go with the first of keys.
func (c *checker) only(parent string, keys ...string) {
	for _, key := range []string{"address", "proxy_protocol", "vnet", "port", "balanced", "link", "addresses", "gateway", "dns"} {
		if c.Has(parent, key) && !slices.Contains(keys, key) {
			c.Fault(c.KeyAt(parent, key), "leave it out", "%s.%s does not go with %s.%s", parent, key, parent, keys[0])
		}
	}
}

func (c *checker) checkTLS() {
	files := c.Has("tls", "cert") || c.Has("tls", "key")
	selfSigned := c.Has("tls", "self_signed") && c.Text("tls", "self_signed") != "false"
	acme := c.Has("tls", "acme")
	forms := 0
	for _, given := range []bool{files, selfSigned, acme} {
		if given {
			forms++
		}
	}
	switch {
	case forms == 0:
		c.Fault(c.KeyAt("tls"), "give cert and key, or self_signed: true, or acme", "there is no certificate under tls")
	case forms > 1:
		c.Fault(c.KeyAt("tls"), "give cert and key, or self_signed: true, or acme", "tls has more than one kind of certificate")
	}
	if files {
		for _, f := range []struct {
			key    string
			path   *string
			secret bool
		}{{"cert", &c.TLS.Cert, false}, {"key", &c.TLS.Key, true}} {
			if !c.Has("tls", f.key) {
				c.Fault(c.KeyAt("tls"), "", "tls has no %s", f.key)
				continue
			}
			c.path(f.path, f.secret, "tls", f.key)
		}
	}
	if acme && len(c.TLS.ACME.Domains) == 0 {
		c.Fault(c.KeyAt("tls", "acme"), "such as domains: [bastion.example]", "tls.acme has no domains")
	}
	if c.Has("tls", "acme", "directory") && !strings.HasPrefix(c.TLS.ACME.Directory, "https://") {
		c.Fault(c.At("tls", "acme", "directory"), "such as https://ca.example/acme/directory", "%q is not the URL of an ACME directory", c.TLS.ACME.Directory)
	}
	if c.Has("tls", "acme", "ca") {
		c.path(&c.TLS.ACME.CA, false, "tls", "acme", "ca")
	}
	for i, d := range c.TLS.ACME.Domains {
		if !dnsHost.MatchString(d) || !strings.Contains(d, ".") {
			c.Fault(c.At("tls", "acme", "domains", i), "", "%q is not a public DNS name in lower case", d)
		}
	}
}

func (c *checker) checkUplink() {
	_, isVNet := c.VNets[c.Uplink]
	switch {
	case c.Uplink == "kernel":
		return
	case isVNet:
	case c.Uplink != "listen":
		known := append([]string{"kernel", "listen"}, c.names()...)
		c.Fault(c.At("uplink"), spell.DidYouMean(c.Uplink, known, "known are "+strings.Join(known, ", ")), "there is no uplink %q", c.Uplink)
		return
	case c.Listen.VNet == "" && c.Listen.Link.Kind == LinkNone:
		c.Fault(c.At("uplink"), "write uplink: kernel", "uplink is listen, but the kernel listens")
		return
	}
	if len(c.TLS.ACME.Domains) > 0 {
		c.checkOwnDNS()
	}
}

// checkOwnDNS checks that the uplink can look up the authority, where that has a name.
func (c *checker) checkOwnDNS() {
	if u, err := url.Parse(c.TLS.ACME.Directory); err == nil {
		if _, err := netip.ParseAddr(u.Hostname()); err == nil {
			return
		}
	}
	name := c.Uplink
	if name == "listen" {
		name = c.Listen.VNet
	}
	v, known := c.VNets[name]
	key := "vnets." + name + ".dns"
	if name == "" {
		v, known, key = VNet{Link: c.Listen.Link, Addresses: c.Listen.Addresses, DNS: c.Listen.DNS}, true, "listen.dns"
	}
	if known && len(v.DNS) == 0 && !v.Addresses.DHCP && v.Link.Kind != LinkKernel {
		c.Fault(c.At("uplink"), "list name servers in "+key, "uplink %s has no name server to look up the ACME authority at", c.Uplink)
	}
}
