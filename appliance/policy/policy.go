// Package policy decides who may reach what. It reads access.yaml and answers, for one request, with a grant and its
// limits or with a refusal that a person can act on. What no rule allows is denied.
//
//	p, err := policy.Parse("access.yaml", data, policy.Options{AddressSyntax: netstack.ParseAddr, Forbidden: fence.Check})
//	grant, err := p.Decide(policy.Request{User: "ann", Target: "db-1", Protocol: "ssh", Time: now})
//	addr := ... // resolve grant.Host inside grant.VNet
//	err = p.DecideAddress(grant, addr)
//
// # Two decisions
//
// Decide looks at names, protocols and ports only and comes before any packet, so that a denied request causes no DNS
// query. DecideAddress looks at the address that is about to be dialled. A flow needs both.
//
// # Who learns what
//
// A target is visible to a person if any rule would let them see it, whatever its protocols. Requests for an invisible
// target and for one that does not exist get the same answer, E_TARGET_UNKNOWN; only for visible targets does a
// refusal name a rule, and only visible names are suggested.
//
// # Several rules
//
// Rules only ever allow, and the order of the file does not matter. Where several allow a request, the strictest
// limits of all of them hold: the shortest idle time and lifetime, and every one's addresses.
//
// A Policy does not change after Parse and is safe for use by many goroutines; a reload makes a new one.
package policy

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// The protocols that a target may offer. A tcp flow is opaque, so only a rule that says tcp allows it.
const (
	SSH = "ssh"
	RDP = "rdp"
	TCP = "tcp"
)

// Bench is the protocol of the appliance's own service, by which people measure their way to it: nothing is dialled, and
// no rule about targets concerns it.
const Bench = "bench"

// benchLifetime ends a flow that measures.
const benchLifetime = 30 * time.Second

// protocols lists those of targets, in the order in which they are tried and shown.
var protocols = []string{SSH, RDP, TCP}

// standardPort is the port of a protocol whose ports are not given; tcp has none.
var standardPort = map[string]uint16{SSH: 22, RDP: 3389}

// A Policy is a parsed access.yaml.
type Policy struct {
	admins      []string
	bench       []string // who may measure: users, "group:NAME", "*"
	addressMode bool
	groups      map[string][]string
	targets     []Target // sorted by name
	rules       []rule   // in the order of the file
	vnets       []string
	options     Options
}

// Options are what the policy needs of its surroundings. Both functions must be set.
type Options struct {
	// AddressSyntax reads s if it is an IP address in any spelling. An error means that s is neither an address nor a
	// name; isAddr then says which of them it looks like.
	AddressSyntax func(s string) (addr netip.Addr, isAddr bool, err error)

	// Forbidden returns why an address is never reachable, whatever the policy and whatever the VNet, or nil.
	Forbidden func(netip.Addr) error

	VNets []string // those that the daemon has; a file that names another is refused. Default: any name will do
}

// A Target is a machine with the protocols that it offers, and the name that people ask for it by.
type Target struct {
	Name     string
	VNet     string
	Host     string            // its address, or the DNS name to resolve inside the VNet
	Offers   []Offer           // its protocols in the order ssh, rdp, tcp
	Labels   map[string]string // not to be changed
	HostKeys []string          // SSH host keys in authorized_keys form; none means that none is pinned
}

// An Offer is a protocol and the ports on which a target speaks it.
type Offer struct {
	Protocol string
	Ports    []uint16 // at least one; the first is the default
}

// offer returns the target's ports for a protocol, none if it does not offer it.
func (t Target) offer(protocol string) []uint16 {
	for _, o := range t.Offers {
		if o.Protocol == protocol {
			return o.Ports
		}
	}
	return nil
}

// A Request is one person's wish to reach one target.
type Request struct {
	User     string
	Target   string // as typed: a target's name or, in address mode, an IP address
	VNet     string // where an address lies; may be empty when only one VNet is possible
	Protocol string // ssh, rdp or tcp; empty means the target's protocol on Port. Or bench, and Target is its service
	Port     uint16 // 0 means the target's default for Protocol
	Time     time.Time
}

// A Grant is what the policy allowed for one request.
type Grant struct {
	User     string
	Target   string // the target's name, or the address in address mode
	VNet     string
	Host     string // the address to dial, or the DNS name to resolve inside the VNet
	Port     uint16
	Protocol string
	Rule     string        // the first rule of the file that allows it
	Idle     time.Duration // ends the flow when no byte moves; 0 means no limit
	Lifetime time.Duration // ends the flow, however busy; 0 means no limit
	Grace    time.Duration // ends the flow when it has been without a connection for so long; 0 means the appliance's own limit
	Expires  time.Time     // Request.Time + Lifetime; zero without a Lifetime
	HostKeys []string      // SSH host keys that the target must show one of; none means that none is pinned

	address netip.Addr // of Host, where Host is an address
	limits  []limit    // the addresses that each rule allows; the address must be in all
}

// A limit is the addresses that one rule allows.
type limit struct {
	rule      string
	addresses []netip.Prefix
}

// A rule lets some people reach some targets.
type rule struct {
	name      string
	who       []string // users, "group:NAME", "*"
	targets   []string // names, with * for any part
	labels    map[string]string
	protocols []string // empty means ssh and rdp
	ports     []uint16 // empty means all that the target offers
	addresses []netip.Prefix
	vnets     []string // empty means all
	idle      time.Duration
	lifetime  time.Duration
	grace     time.Duration
}

// IsAdmin reports whether user may administer the appliance. It says nothing about targets.
func (p *Policy) IsAdmin(user string) bool {
	return slices.Contains(p.admins, user)
}

// Visible returns the targets that user may see, sorted by name, each with those of its protocols and ports that the
// rules let user reach. A target may be visible without any.
func (p *Policy) Visible(user string) []Target {
	var visible []Target
	for _, t := range p.targets {
		if rules := p.rulesFor(user, t); len(rules) > 0 {
			t.Offers = usable(t, rules)
			visible = append(visible, t)
		}
	}
	return visible
}

// Targets returns all targets, sorted by name, for administrators.
func (p *Policy) Targets() []Target {
	return slices.Clone(p.targets)
}

// AddressMode reports whether people may ask for addresses instead of names.
func (p *Policy) AddressMode() bool {
	return p.addressMode
}

// target finds a target by name.
func (p *Policy) target(name string) (Target, bool) {
	i, found := slices.BinarySearchFunc(p.targets, name, func(t Target, name string) int {
		return strings.Compare(t.Name, name)
	})
	if !found {
		return Target{}, false
	}
	return p.targets[i], true
}

// rulesFor returns the rules that let user see the target, ignoring protocols and ports.
func (p *Policy) rulesFor(user string, t Target) (rules []rule) {
	for _, r := range p.rules {
		if r.namesTargets() && p.includes(r.who, user) && r.covers(t) {
			rules = append(rules, r)
		}
	}
	return rules
}

// includes reports whether user is among people: users, groups, everybody.
func (p *Policy) includes(people []string, user string) bool {
	return slices.ContainsFunc(people, func(who string) bool {
		if group, ok := cutGroup(who); ok {
			return slices.Contains(p.groups[group], user)
		}
		return who == "*" || who == user
	})
}

// namesTargets reports whether the rule is about named targets; the others are about addresses.
func (r rule) namesTargets() bool {
	return len(r.targets) > 0 || len(r.labels) > 0
}

// covers reports whether the target is among those of the rule.
func (r rule) covers(t Target) bool {
	if len(r.vnets) > 0 && !slices.Contains(r.vnets, t.VNet) {
		return false
	}
	for k, v := range r.labels {
		if got, ok := t.Labels[k]; !ok || got != v {
			return false
		}
	}
	return len(r.targets) == 0 || slices.ContainsFunc(r.targets, func(pattern string) bool {
		return matches(pattern, t.Name)
	})
}

// allows reports whether the rule allows a protocol on a port. Without ports of its own a rule about targets allows
// all that the target offers, a rule about addresses the protocol's standard port.
func (r rule) allows(protocol string, port uint16) bool {
	switch {
	case !r.allowsProtocol(protocol):
		return false
	case len(r.ports) > 0:
		return slices.Contains(r.ports, port)
	default:
		return r.namesTargets() || port != 0 && port == standardPort[protocol]
	}
}

func (r rule) allowsProtocol(protocol string) bool {
	if len(r.protocols) == 0 {
		return protocol != TCP
	}
	return slices.Contains(r.protocols, protocol)
}

// usable returns what the rules let a person reach of what the target offers.
func usable(t Target, rules []rule) (offers []Offer) {
	for _, o := range t.Offers {
		var ports []uint16
		for _, port := range o.Ports {
			if slices.ContainsFunc(rules, func(r rule) bool { return r.allows(o.Protocol, port) }) {
				ports = append(ports, port)
			}
		}
		if len(ports) > 0 {
			offers = append(offers, Offer{o.Protocol, ports})
		}
	}
	return offers
}

// limitTo narrows the grant by the rule's limits.
func (g *Grant) limitTo(r rule) {
	if g.Rule == "" {
		g.Rule = r.name
	}
	g.Idle = shorter(g.Idle, r.idle)
	g.Lifetime = shorter(g.Lifetime, r.lifetime)
	g.Grace = shorter(g.Grace, r.grace)
	if len(r.addresses) > 0 {
		g.limits = append(g.limits, limit{r.name, r.addresses})
	}
}

// shorter returns the shorter of two limits, of which 0 is none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
