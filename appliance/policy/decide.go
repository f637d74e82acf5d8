package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
)

// Decide is the first decision: on people, names, protocol and port, before any packet. Its error is a *Refusal.
func (p *Policy) Decide(r Request) (Grant, error) {
	if r.Protocol == Bench {
		return p.decideBench(r)
	}
	if r.Protocol != "" && !slices.Contains(protocols, r.Protocol) {
		return Grant{}, &Refusal{Code: CodeName, Sentence: "the protocol must be ssh, rdp or tcp"}
	}
	s, t, err := p.find(r)
	if err != nil {
		return Grant{}, err
	}
	return s.decide(t)
}

// find finds the target of a request, if the person may see it.
func (p *Policy) find(r Request) (*subject, Target, error) {
	name, addr, err := p.parseTyped(r.Target)
	if err != nil {
		return nil, Target{}, err
	}
	if addr.IsValid() {
		return p.findTyped(r, addr)
	}
	t, found := p.target(name)
	if !found || r.VNet != "" && r.VNet != t.VNet {
		return nil, Target{}, p.unknown(r, r.Target)
	}
	s := p.subject(r, targetEntity(t))
	if len(s.seenBy()) == 0 {
		return nil, Target{}, p.unknown(r, r.Target)
	}
	return s, t, nil
}

// findTyped makes a target of an address that a person typed instead of a name: syntax is behind it, then come the
// addresses that nobody may reach, address mode, and the statements.
func (p *Policy) findTyped(r Request, addr netip.Addr) (*subject, Target, error) {
	if err := p.forbidden(addr); err != nil {
		return nil, Target{}, err
	}
	if !p.addressMode {
		return nil, Target{}, &Refusal{
			Code:     CodeAddressMode,
			Sentence: "direct addresses are off here; use a target name",
			Hint:     "sallyport ls shows the targets that you may use",
		}
	}
	var vnets []string
	var in *subject
	for _, vnet := range p.vnets {
		if r.VNet != "" && r.VNet != vnet {
			continue
		}
		if s := p.subject(r, addressEntity(addr, vnet)); len(s.seenBy()) > 0 {
			vnets, in = append(vnets, vnet), s
		}
	}
	switch len(vnets) {
	case 0:
		return nil, Target{}, p.unknown(r, addr.String())
	case 1:
		t := Target{Name: addr.String(), VNet: vnets[0], Host: addr.String()}
		t.Offers = in.addressOffers()
		return in, t, nil
	}
	return nil, Target{}, &Refusal{
		Code:     CodeName,
		Sentence: fmt.Sprintf("%s may lie in several vnets", addr),
		Hint:     "say in which: " + strings.Join(vnets, ", "),
	}
}

// addressOffers returns what a person may try on an address, of which nobody has said what it offers: the ports that the
// statements name, the standard ones, and what is asked for.
func (s *subject) addressOffers() (offers []Offer) {
	r, seen := s.request, s.seenBy()
	for _, protocol := range protocols {
		var ports []uint16
		try := func(port uint16) {
			if port != 0 && !slices.Contains(ports, port) && s.question(offered, protocol, port, netip.Addr{}).ask(Connect).allowed() {
				ports = append(ports, port)
			}
		}
		for _, statement := range seen {
			for _, port := range statement.ports {
				try(port)
			}
			try(standardPort[protocol])
		}
		if r.Protocol == protocol {
			try(r.Port)
		}
		if len(ports) > 0 {
			offers = append(offers, Offer{protocol, ports})
		}
	}
	return offers
}

// decideBench decides whether a person may measure their way to the appliance.
func (p *Policy) decideBench(r Request) (Grant, error) {
	by, err := p.Allows(Bench, r)
	if err != nil {
		return Grant{}, err
	}
	return Grant{User: r.User, Target: r.Target, Protocol: Bench, Rule: Bench, Policies: by, Lifetime: benchLifetime,
		Expires: r.Time.Add(benchLifetime), request: r}, nil
}

// Allows decides on what is not a flow: Admin and Bench on the appliance, ViewSession and KillSession on the request's
// target. It returns the ids of what permits it; its error is a *Refusal.
func (p *Policy) Allows(action string, r Request) (by []string, err error) {
	v := p.subject(r, p.resourceOf(action, r)).question(resolved, "", 0, netip.Addr{}).ask(action)
	switch {
	case v.allowed():
		for _, s := range v.permits {
			by = append(by, s.id)
		}
		return by, nil
	case len(v.forbids) > 0:
		return nil, &Refusal{Code: CodeDenied, Sentence: fmt.Sprintf("%s is denied by %s", action, v.forbids[0]), Hint: v.forbids[0].hint, Rule: v.forbids[0].id}
	case len(v.broken) > 0:
		return nil, broken(action+" is denied", v.broken)
	case action == Bench:
		return nil, &Refusal{Code: CodeDenied, Sentence: "you may not measure your way to this appliance",
			Hint: "ask an administrator to add you to bench in access.yaml"}
	}
	return nil, &Refusal{Code: CodeDenied, Sentence: fmt.Sprintf("no rule or policy allows you to %s", actionWords[action])}
}

// resourceOf is what such an action is about. A session may outlive its target in access.yaml.
func (p *Policy) resourceOf(action string, r Request) types.Entity {
	if action == Admin || action == Bench {
		return types.Entity{UID: thisAppliance}
	}
	if addr, err := netip.ParseAddr(r.Target); err == nil {
		return addressEntity(addr.Unmap(), r.VNet)
	}
	if t, ok := p.target(r.Target); ok {
		return targetEntity(t)
	}
	return targetEntity(Target{Name: r.Target, VNet: r.VNet})
}

var actionWords = map[string]string{
	Admin: "administer the appliance", ViewSession: "watch this session", KillSession: "end this session",
}

// decide decides on a target that the person may see.
func (s *subject) decide(t Target) (Grant, error) {
	r := s.request
	protocol, port := s.choose(t)
	if port == 0 && r.Port == 0 {
		return Grant{}, &Refusal{
			Code:     CodeDenied,
			Sentence: fmt.Sprintf("%s does not offer %s", t.Name, r.Protocol),
			Hint:     "you may use " + joinOffers(s.usable(t)),
		}
	}
	if !slices.Contains(t.offer(protocol), port) {
		return Grant{}, s.unpermitted(t, protocol, port, joinHostPort(t.Name, port))
	}
	addr, err := netip.ParseAddr(t.Host)
	if err != nil {
		addr = r.Address
	}
	if addr.IsValid() {
		if err := s.policy.forbidden(addr); err != nil {
			return Grant{}, err
		}
	}
	return s.decideOn(t, protocol, port, addr)
}

// choose completes a request's protocol and port from what the target offers and the person may use. Port 0 means
// that there is nothing to choose.
func (s *subject) choose(t Target) (protocol string, port uint16) {
	r := s.request
	switch {
	case r.Protocol != "" && r.Port != 0:
		return r.Protocol, r.Port
	case r.Protocol != "":
		if ports := t.offer(r.Protocol); len(ports) > 0 {
			return r.Protocol, ports[0]
		}
		return r.Protocol, 0
	}
	for _, offers := range [][]Offer{s.usable(t), t.Offers} {
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

// decideOn asks everything that a flow needs, at an address that may not be known yet.
func (s *subject) decideOn(t Target, protocol string, port uint16, addr netip.Addr) (Grant, error) {
	r, at := s.request, resolved
	if !addr.IsValid() {
		at = named
	}
	q := s.question(at, protocol, port, addr)
	v := q.ask(Connect)
	if !v.allowed() {
		return Grant{}, q.refusal(t, v)
	}
	g := Grant{
		User: r.User, Target: t.Name, VNet: t.VNet, Host: t.Host, Port: port, Protocol: protocol, HostKeys: t.HostKeys, HostCA: t.HostCA, Desktop: t.Desktop,
		Rule: v.permits[0].id, Timed: s.looksAt(changing), request: r, address: addr.Unmap(),
	}
	permits := v.permits
	for _, channel := range channels[protocol] {
		v := q.ask(channel)
		switch {
		case v.allowed():
			g.Channels = append(g.Channels, channel)
			permits = append(permits, v.permits...)
		case r.Opaque:
			return Grant{}, needsPortal(t, port, channel, v)
		}
	}
	for _, statement := range permits {
		g.limitTo(statement)
	}
	if err := q.allowAt(t, addr, permits); err != nil {
		return Grant{}, err
	}
	if err := q.record(t, &g, permits); err != nil {
		return Grant{}, err
	}
	if g.Lifetime > 0 {
		g.Expires = r.Time.Add(g.Lifetime)
	}
	return g, nil
}

// record settles whether the flow must be recorded, and refuses one that must be and cannot.
func (q *question) record(t Target, g *Grant, permits []*statement) error {
	if !g.Record {
		return nil
	}
	exempt := q.ask(RecordExempt)
	if exempt.allowed() {
		g.Record = false
		g.Policies = append(g.Policies, exempt.permits[0].id)
		return nil
	}
	demands := permits[slices.IndexFunc(permits, func(s *statement) bool { return s.limits.record })]
	switch {
	case !q.policy.options.Recording:
		return &Refusal{
			Code:     CodeRecording,
			Sentence: fmt.Sprintf("%s denied: %s demands a recording, and this appliance makes none", joinHostPort(t.Name, g.Port), demands),
			Hint:     "ask an administrator", Rule: demands.id, Err: joinErrors(exempt.broken),
		}
	case g.request.Opaque:
		return &Refusal{
			Code:     CodePortal,
			Sentence: fmt.Sprintf("%s needs the portal: %s demands a recording", joinHostPort(t.Name, g.Port), demands),
			Hint:     "use the portal", Rule: demands.id, Err: joinErrors(exempt.broken),
		}
	}
	return nil
}
