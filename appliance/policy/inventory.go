package policy

import (
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/crypto/ssh"

	"sallyport/appliance/policy/yamlfile"
)

func (c *checker) target(i int, t targetForm, named map[string]int) Target {
	c.checkTargetName(i, t.Name, named)
	if c.Has("targets", i, "vnet") {
		c.checkVNet(t.VNet, "targets", i, "vnet")
	} else {
		c.Fault(c.At("targets", i), "", "target %q has no vnet", t.Name)
	}
	if c.Has("targets", i, "address") {
		c.checkHost(t.Address, c.At("targets", i, "address"))
	} else {
		c.Fault(c.At("targets", i), "", "target %q has no address", t.Name)
	}
	if !c.Has("targets", i, "protocols") {
		c.Fault(c.At("targets", i), "such as protocols: ssh", "target %q has no protocols", t.Name)
	}
	c.checkLabels(t.Labels, "targets", i, "labels")
	c.checkKeys(t.HostKeys, "targets", i, "host_keys")
	c.checkKeys(t.HostCA, "targets", i, "host_ca")
	host := t.Address
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.String()
	} else {
		host = strings.ToLower(host)
	}
	return Target{Name: t.Name, VNet: t.VNet, Host: host, Offers: t.Protocols, Labels: t.Labels, HostKeys: t.HostKeys, HostCA: t.HostCA, Desktop: c.desktop(i, t.RDP)}
}

// checkKeys wants SSH public keys.
func (c *checker) checkKeys(keys []string, steps ...any) {
	for j, key := range keys {
		if _, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(key)); err != nil || len(options) > 0 || len(rest) > 0 {
			c.Fault(c.At(append(slices.Clone(steps), j)...), `such as "ssh-ed25519 AAAA…", a line of ssh-keyscan without the host`, "this is not an SSH public key")
		}
	}
}

func (c *checker) checkTargetName(i int, name string, named map[string]int) {
	if !c.Has("targets", i, "name") {
		c.Fault(c.At("targets", i), "", "target %d has no name", i+1)
		return
	}
	at := c.At("targets", i, "name")
	if first, twice := named[name]; twice {
		c.Fault(at, "", "target %q is there twice; the first is in line %d", name, c.At("targets", first, "name").Line)
		return
	}
	named[name] = i
	_, isAddr, err := c.options.AddressSyntax(name)
	switch {
	case isAddr, looksNumeric(name):
		c.Fault(at, "add a letter, such as db-"+name, "target name %q looks like an IP address", name)
	case err != nil, !targetName.MatchString(name), strings.Contains(name, ".."):
		c.Fault(at, "", "target name %q must be 1 to 63 of a-z, 0-9, dot and dash, and begin and end with a letter or digit", name)
	}
}

// checkHost wants an IP address in its plain spelling, or a DNS name.
func (c *checker) checkHost(host string, at yamlfile.Position) {
	addr, isAddr, err := c.options.AddressSyntax(host)
	switch {
	case isAddr && err != nil:
		c.Fault(at, "such as 10.0.5.4", "address %q is not a valid IP address", host)
	case isAddr:
		if plain, err := netip.ParseAddr(host); err != nil || plain != addr {
			c.Fault(at, "write it as "+addr.String(), "address %q is not in its plain spelling", host)
		} else if addr.Zone() != "" || addr.Is4In6() {
			c.Fault(at, "write it as "+addr.Unmap().WithZone("").String(), "address %q is not in its plain spelling", host)
		} else if err := c.options.Forbidden(addr); err != nil {
			c.Fault(at, "", "address %s is never reachable: %v", addr, err)
		}
	case err != nil, !isDNSName(host):
		c.Fault(at, "such as 10.0.5.4 or db-1.corp.example", "address %q is neither an IP address nor a DNS name", host)
	}
}

// checkLabels wants words, so that a label never holds what a terminal would act on.
func (c *checker) checkLabels(labels map[string]string, steps ...any) {
	for k, v := range labels {
		at := c.KeyAt(append(steps, k)...)
		if !isPlain(k, 64) || !isPlain(v, 256) {
			c.Fault(at, "", "label %q: a label and its value are 1 to 64 and 1 to 256 printable characters", k)
		}
	}
}

// isPlain reports whether s has 1 to limit bytes and prints as itself.
func isPlain(s string, limit int) bool {
	return s != "" && len(s) <= limit && strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
