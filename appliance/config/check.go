package config

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"sallyport/appliance/policy/spell"
	"sallyport/appliance/policy/yamlfile"
)

var (
	vnetName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)
	nicName  = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,15}$`)
	nicMAC   = regexp.MustCompile(`^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$`)
	unixUser = regexp.MustCompile(`^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,9})$`)
	dnsHost  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
)

// A checker looks for what is wrong in a file whose types are right, and joins its paths with its folder.
type checker struct {
	*yamlfile.File
	Config
	folder string
	stat   func(string) (fs.FileInfo, error)
	nics   map[string]string // the key that names each NIC
}

func (c *checker) check() {
	c.nics = make(map[string]string)
	if c.Has("name") && !isPlain(c.Text("name")) {
		c.Fault(c.At("name"), "", "name %q must be 1 to 64 printable characters", c.Text("name"))
	}
	if c.Has("files") {
		c.Fault(c.KeyAt("files"), "write each of them beside this one, or check with --image", "only the document of an image has files in it")
	}
	c.checkVNets()
	c.checkListen()
	c.checkTLS()
	c.checkUplink()
	c.checkStore()
	if len(c.Update.Keys) > MaxUpdateKeys {
		c.Fault(c.At("update", "keys"), "leave out what signs no more", "update.keys are %d; at most %d", len(c.Update.Keys), MaxUpdateKeys)
	}
	if c.Has("identity_key") {
		c.path(&c.IdentityKey, true, "identity_key")
	}
	if c.Has("metrics", "listen") && !parseHostPort(c.Metrics.Listen) {
		c.Fault(c.At("metrics", "listen"), `such as "127.0.0.1:9090"`, "metrics.listen is %q, which is not an address and a port", c.Metrics.Listen)
	}
	if c.RunAs != "" && !unixUser.MatchString(c.RunAs) {
		c.Fault(c.At("run_as"), "", "run_as is %q, which is neither a user's name nor a number", c.RunAs)
	}
	c.checkLimits()
	c.checkApprovals()
	if c.Grants.Cache > time.Hour {
		c.Fault(c.At("grants", "cache"), "what was decided so long ago may be wrong by now", "grants.cache must be at most 1h")
	}
	c.checkAudit()
	c.checkIdentity()
	c.checkBanner()
	c.checkMachine()
	c.checkTime()
	c.checkSSH()
	c.checkState()
	c.accessPath()
}

// isPlain reports whether s has 1 to 64 bytes and prints as itself.
func isPlain(s string) bool {
	return s != "" && len(s) <= 64 && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

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

func (c *checker) checkDNS(servers []netip.Addr, path ...any) {
	for i, a := range servers {
		if a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
			c.Fault(c.At(slices.Concat(path, []any{i})...), "", "%s cannot be a DNS server", a)
		}
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

func (c *checker) checkStore() {
	const example = "such as postgres://sallyport@db.example/sallyport?sslmode=verify-full"
	if c.Has("store", "password_file") {
		c.path(&c.Store.PasswordFile, true, "store", "password_file")
		if !c.Has("store", "url") {
			c.Fault(c.KeyAt("store", "password_file"), "give store.url too", "store.password_file is for a database that store.url names")
		}
	}
	if !c.Has("store", "url") {
		return
	}
	at := c.At("store", "url")
	u, err := url.Parse(c.Store.URL)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || strings.Trim(u.Path, "/") == "" {
		c.Fault(at, example, "store.url is not the URL of a PostgreSQL database") // which may hold a password: it is not shown
		return
	}
	if _, secret := u.User.Password(); secret || u.Query().Has("password") {
		c.Fault(at, "put it into a file and name that as store.password_file", "store.url holds a password")
	}
	if c.Uplink == "listen" && c.Listen.Link.Kind != LinkNone {
		c.Fault(at, "write uplink: kernel, or a VNet's name", "the database is needed before the appliance listens, and uplink is listen")
	}
}

func (c *checker) checkLimits() {
	for key, n := range map[string]int{
		"flows": c.Limits.Flows, "flows_per_user": c.Limits.FlowsPerUser, "unauthenticated": c.Limits.Unauthenticated,
		"detached": c.Limits.Detached, "bench": c.Limits.Bench, "bench_mbit": c.Limits.BenchMbit,
	} {
		if n > 1_000_000 || c.Text("limits", key) == "0" { // withDefaults has replaced a 0
			c.Fault(c.At("limits", key), "", "limits.%s must be 1 to 1000000", key)
		}
	}
}

// checkApprovals keeps what somebody says yes to within what is remembered, and what people let others do within a month.
func (c *checker) checkApprovals() {
	for key, d := range map[string]time.Duration{"approval": c.Limits.Approval, "approved": c.Limits.Approved} {
		if d > 24*time.Hour {
			c.Fault(c.At("limits", key), "", "limits.%s must be at most 24h", key)
		}
	}
	if c.Limits.GuestLink > 30*24*time.Hour || c.Limits.GuestLink < time.Minute {
		c.Fault(c.At("limits", "guest_link"), "", "limits.guest_link must be 1m to 720h")
	}
}

// checkAudit checks how long the audit log is kept, and its receivers.
func (c *checker) checkAudit() {
	for key, n := range map[string]int{"keep_days": c.Audit.KeepDays, "keep_mb": c.Audit.KeepMB} {
		if n > 1_000_000 || c.Text("audit", key) == "0" {
			c.Fault(c.At("audit", key), "", "audit.%s must be 1 to 1000000", key)
		}
	}
	if c.Audit.Sync > 10*time.Second {
		c.Fault(c.At("audit", "sync"), "a loss of power may cost as much", "audit.sync must be at most 10s")
	}
	for i := range c.Audit.Export {
		c.checkExport(&c.Audit.Export[i], i)
	}
}

func (c *checker) checkExport(e *Export, i int) {
	at := func(key string) yamlfile.Position { return c.At("audit", "export", i, key) }
	if !vnetName.MatchString(e.Name) {
		c.Fault(at("name"), "such as siem", "the receiver's name %q must be 1 to 32 of a-z, 0-9 and -", e.Name)
	} else if slices.ContainsFunc(c.Audit.Export[:i], func(o Export) bool { return o.Name == e.Name }) {
		c.Fault(at("name"), "", "there are two receivers %q", e.Name)
	}
	forms := 0
	for key, value := range map[string]string{"file": e.File, "syslog": e.Syslog, "webhook": e.Webhook, "otlp": e.OTLP} {
		if value == "" {
			continue
		}
		forms++
		if u, err := url.Parse(value); (key == "webhook" || key == "otlp") && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
			c.Fault(at(key), "such as https://siem.example/in", "%q is not a URL", value)
		}
		if key == "syslog" && !isEndpoint(value) {
			c.Fault(at(key), "such as siem.example:6514", "%q is not a host and a port", value)
		}
	}
	if e.Database {
		forms++
		if e.CA != "" {
			c.Fault(at("ca"), "store.url says how the database is verified", "ca does not go with database")
		}
	}
	if forms != 1 {
		c.Fault(at("name"), "", "receiver %q must have one of file, syslog, webhook, otlp and database", e.Name)
	}
	if e.File != "" {
		e.File = c.join(e.File)
		if e.CA != "" {
			c.Fault(at("ca"), "leave it out", "a file has no certificate")
		}
	}
	if e.CA != "" {
		c.path(&e.CA, false, "audit", "export", i, "ca")
	}
	if e.TokenFile != "" {
		if e.Webhook == "" && e.OTLP == "" {
			c.Fault(at("token_file"), "leave it out", "only webhook and otlp take a token")
		}
		c.path(&e.TokenFile, true, "audit", "export", i, "token_file")
	}
}

func (c *checker) checkSSH() {
	if first := c.SSH.FirstUse; first != FirstUseAccept && first != FirstUseConfirm {
		c.Fault(c.At("ssh", "first_use"), "", "ssh.first_use must be accept or confirm")
	}
}

func (c *checker) checkBanner() {
	if len(c.Banner) > 500 || strings.ContainsFunc(c.Banner, func(r rune) bool { return !unicode.IsPrint(r) }) {
		c.Fault(c.At("banner"), "", "banner must be one line of at most 500 printable characters")
	}
}

// checkMachine checks what holds for the image only.
func (c *checker) checkMachine() {
	m := c.Machine
	if m.Enrol != "" && !isPlain(m.Enrol) {
		c.Fault(c.At("machine", "enrol"), "", "machine.enrol is %q, which is nobody's name", m.Enrol)
	}
	if c.Has("machine", "data") && m.Data != DataAttached {
		c.Fault(c.At("machine", "data"), "or leave it out: then the image's own disk has the data", "machine.data must be %s", DataAttached)
	}
	if m.Interface == "" {
		for _, key := range []string{"addresses", "gateway", "dns"} {
			if c.Has("machine", key) {
				c.Fault(c.KeyAt("machine", key), "say machine: {interface: eth0, …}, or leave it out", "machine.%s is for an interface, and there is none", key)
			}
		}
		return
	}
	c.checkNIC(m.Interface, true, c.At("machine", "interface"), "machine")
	c.checkAddresses(Link{Kind: LinkPacket, Packet: m.Interface}, m.Addresses, m.Gateway, []any{"machine"})
	c.checkDNS(m.DNS, "machine", "dns")
	if c.Listen.Address == "" {
		c.Fault(c.At("machine", "interface"), "leave it out: the kernel needs no address", "machine.interface is for listen.address, and people come in by a stack of the appliance's own")
	}
}

func (c *checker) checkState() {
	if c.Has("state") && c.Text("state") == "" {
		c.Fault(c.At("state"), "", "state is empty")
	}
	c.State = c.join(c.State)
	if c.State == "/" {
		c.Fault(c.At("state"), "such as "+defaultState, "state must be a folder of its own")
	}
}

func (c *checker) join(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(c.folder, path)
}

// accessPath is where the access files are: in the database, or at a path.
func (c *checker) accessPath() {
	switch {
	case c.Access != InDatabase:
		if c.Has("access_seed") {
			c.Fault(c.KeyAt("access_seed"), "set access: database, or leave it out", "access_seed is what a database begins with, and the access files are not in one")
		}
		c.fileOrFolder(&c.Access, "access")
	case c.Has("access_seed"):
		c.fileOrFolder(&c.Seed, "access_seed")
	}
}

// fileOrFolder is a file's path, or that of a folder of such files.
func (c *checker) fileOrFolder(path *string, key string) {
	if c.stat != nil && *path != "" {
		if info, err := c.stat(c.join(*path)); err == nil && info.Mode().IsDir() {
			*path = c.join(*path)
			return
		}
	}
	c.path(path, false, key)
}

// path joins a file's path with the folder and wants the file to be there; a secret one for its owner only.
func (c *checker) path(path *string, secret bool, steps ...any) {
	at := c.At(steps...)
	if c.Has(steps...) && c.Text(steps...) == "" {
		c.Fault(at, "", "%s is empty", dotted(steps))
		return
	}
	*path = c.join(*path)
	if c.stat == nil {
		return
	}
	info, err := c.stat(*path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.Fault(at, "", "there is no file %s", *path)
	case err != nil:
		c.Fault(at, "", "%v", err)
	case !info.Mode().IsRegular():
		c.Fault(at, "", "%s is not a file", *path)
	case secret && info.Mode().Perm()&0o077 != 0:
		c.Fault(at, "chmod 600 "+*path, "%s can be read by others (mode %#o)", *path, info.Mode().Perm())
	}
}
