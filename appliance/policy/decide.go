package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Decide is the first decision: on names, protocol and port, before any packet. Its error is a *Refusal.
func (p *Policy) Decide(r Request) (Grant, error) {
	if r.Protocol == Bench {
		return p.decideBench(r)
	}
	if r.Protocol != "" && !slices.Contains(protocols, r.Protocol) {
		return Grant{}, &Refusal{Code: CodeName, Sentence: "the protocol must be ssh, rdp or tcp"}
	}
	name, addr, err := p.parseTyped(r.Target)
	if err != nil {
		return Grant{}, err
	}
	if addr.IsValid() {
		return p.decideTyped(r, addr)
	}
	t, found := p.target(name)
	if !found || r.VNet != "" && r.VNet != t.VNet {
		return Grant{}, p.unknown(r.User, r.Target)
	}
	rules := p.rulesFor(r.User, t)
	if len(rules) == 0 {
		return Grant{}, p.unknown(r.User, r.Target)
	}
	return p.decideTarget(r, t, rules)
}

// decideBench decides whether a person may measure their way to the appliance.
func (p *Policy) decideBench(r Request) (Grant, error) {
	if !p.includes(p.bench, r.User) {
		return Grant{}, &Refusal{Code: CodeDenied, Sentence: "you may not measure your way to this appliance",
			Hint: "ask an administrator to add you to bench in access.yaml"}
	}
	return p.finish(Grant{User: r.User, Target: r.Target, Protocol: Bench, Rule: Bench, Lifetime: benchLifetime}, r)
}

// decideTarget decides on a target that rules make visible to the person.
func (p *Policy) decideTarget(r Request, t Target, rules []rule) (Grant, error) {
	may := usable(t, rules)
	protocol, port := choose(r, t, may)
	if port == 0 && r.Port == 0 {
		return Grant{}, &Refusal{
			Code:     CodeDenied,
			Sentence: fmt.Sprintf("%s does not offer %s", t.Name, r.Protocol),
			Hint:     "you may use " + joinOffers(may),
		}
	}
	g := Grant{User: r.User, Target: t.Name, VNet: t.VNet, Host: t.Host, Port: port, Protocol: protocol, HostKeys: t.HostKeys}
	if slices.Contains(t.offer(protocol), port) {
		for _, rule := range rules {
			if rule.allows(protocol, port) {
				g.limitTo(rule)
			}
		}
	}
	if g.Rule == "" {
		if len(may) > 0 && !offersPort(may, port) {
			return Grant{}, portDenied(port, rules[0].name, may)
		}
		return Grant{}, denied(t.Name, port, rules[0].name, "you may use "+joinOffers(may)+" there; ask an administrator for more")
	}
	return p.finish(g, r)
}

// finish sets what follows from the limits, and asks for an address that is already known whether it is allowed.
func (p *Policy) finish(g Grant, r Request) (Grant, error) {
	if g.Lifetime > 0 {
		g.Expires = r.Time.Add(g.Lifetime)
	}
	if addr, err := netip.ParseAddr(g.Host); err == nil {
		g.address = addr
		if err := p.DecideAddress(g, addr); err != nil {
			return Grant{}, err
		}
	}
	return g, nil
}

// choose completes a request's protocol and port from what the target offers and the person may use. Port 0 means
// that there is nothing to choose.
func choose(r Request, t Target, may []Offer) (protocol string, port uint16) {
	switch {
	case r.Protocol != "" && r.Port != 0:
		return r.Protocol, r.Port
	case r.Protocol != "":
		if ports := t.offer(r.Protocol); len(ports) > 0 {
			return r.Protocol, ports[0]
		}
		return r.Protocol, 0
	}
	for _, offers := range [][]Offer{may, t.Offers} {
		for _, o := range offers {
			if r.Port == 0 {
				return o.Protocol, o.Ports[0]
			}
			if slices.Contains(o.Ports, r.Port) {
				return o.Protocol, r.Port
			}
		}
	}
	return TCP, r.Port
}

func offersPort(offers []Offer, port uint16) bool {
	return slices.ContainsFunc(offers, func(o Offer) bool { return slices.Contains(o.Ports, port) })
}

// decideTyped decides on an address that a person typed instead of a name: syntax is behind it, then come the
// addresses that nobody may reach, address mode, and the rules.
func (p *Policy) decideTyped(r Request, addr netip.Addr) (Grant, error) {
	if err := p.forbidden(addr); err != nil {
		return Grant{}, err
	}
	if !p.addressMode {
		return Grant{}, &Refusal{
			Code:     CodeAddressMode,
			Sentence: "direct addresses are off here; use a target name",
			Hint:     "sallyport ls shows the targets that you may use",
		}
	}
	rules := p.rulesForAddress(r, addr)
	if len(rules) == 0 {
		return Grant{}, p.unknown(r.User, addr.String())
	}
	vnets := []string{r.VNet}
	if r.VNet == "" {
		vnets = p.vnetsOf(rules)
	}
	if len(vnets) > 1 {
		return Grant{}, &Refusal{
			Code:     CodeName,
			Sentence: fmt.Sprintf("%s may lie in several vnets", addr),
			Hint:     "say in which: " + strings.Join(vnets, ", "),
		}
	}
	t := Target{Name: addr.String(), VNet: vnets[0], Host: addr.String(), Offers: addressOffers(rules)}
	return p.decideTarget(r, t, rules)
}

// rulesForAddress returns the rules about addresses that let the person of the request see addr.
func (p *Policy) rulesForAddress(req Request, addr netip.Addr) (rules []rule) {
	for _, r := range p.rules {
		if r.namesTargets() || !p.includes(r.who, req.User) || !contains(r.addresses, addr) {
			continue
		}
		vnets := p.vnetsOf([]rule{r})
		if len(vnets) > 0 && (req.VNet == "" || slices.Contains(vnets, req.VNet)) {
			rules = append(rules, r)
		}
	}
	return rules
}

// vnetsOf returns the VNets in which the rules allow addresses, sorted.
func (p *Policy) vnetsOf(rules []rule) (vnets []string) {
	for _, r := range rules {
		if len(r.vnets) == 0 {
			return p.vnets
		}
		vnets = append(vnets, r.vnets...)
	}
	slices.Sort(vnets)
	return slices.Compact(vnets)
}

// addressOffers returns what rules about addresses let a person try on one.
func addressOffers(rules []rule) (offers []Offer) {
	for _, protocol := range protocols {
		var ports []uint16
		for _, r := range rules {
			for _, port := range slices.Concat(r.ports, []uint16{standardPort[protocol]}) {
				if r.allows(protocol, port) && !slices.Contains(ports, port) {
					ports = append(ports, port)
				}
			}
		}
		if len(ports) > 0 {
			offers = append(offers, Offer{protocol, ports})
		}
	}
	return offers
}

// contains reports whether addr is in one of the prefixes.
func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
