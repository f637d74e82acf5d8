package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// DecideAddress is the second decision: may the flow of this grant go to addr, which is what the grant's Host resolved
// to? It returns the grant as it holds there. Dial only an address for which there is no error; it is a *Refusal.
func (p *Policy) DecideAddress(g Grant, addr netip.Addr) (Grant, error) {
	if g.Rule == "" {
		return Grant{}, &Refusal{Code: CodeDenied, Sentence: fmt.Sprintf("%s denied: no rule allows it", addr)}
	}
	if err := p.forbidden(addr); err != nil {
		return Grant{}, err
	}
	switch {
	case g.address.IsValid() && g.address != addr.Unmap():
		return Grant{}, &Refusal{
			Code:     CodeDenied,
			Sentence: fmt.Sprintf("%s is not the address of %s", addr, g.Target),
			Rule:     g.Rule,
		}
	case g.address.IsValid(), g.Protocol == Bench:
		return g, nil // it is decided
	}
	t, found := p.target(g.Target)
	if !found {
		return Grant{}, p.unknown(g.request, g.Target)
	}
	return p.subject(g.request, targetEntity(t)).decideOn(t, g.Protocol, g.Port, addr)
}

// allowAt refuses an address that is outside of what one of the permits allows.
func (q *question) allowAt(t Target, addr netip.Addr, permits []*statement) error {
	if !addr.IsValid() {
		return nil
	}
	for _, s := range permits {
		if len(s.limits.addresses) > 0 && !contains(s.limits.addresses, addr.Unmap()) {
			return &Refusal{
				Code:     CodeDenied,
				Sentence: fmt.Sprintf("%s at %s denied by %s", joinHostPort(t.Name, q.port), addr, s),
				Hint:     fmt.Sprintf("the %s allows %s", s.word, joinPrefixes(s.limits.addresses)),
				Rule:     s.id,
			}
		}
	}
	return nil
}

// unreachable holds the addresses of metadata services and link-local ones, which have a sentence of their own. It
// only chooses words: what is forbidden, Options.Forbidden says.
var unreachable = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("168.63.129.16/32"),
	netip.MustParsePrefix("100.100.100.200/32"),
	netip.MustParsePrefix("fd00:ec2::254/128"),
	netip.MustParsePrefix("fd20:ce::254/128"),
	netip.MustParsePrefix("fe80::/10"),
}

// nat64 is the well-known prefix whose last 32 bits are an IPv4 address.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// forbidden returns the refusal for an address that is never reachable, or nil.
func (p *Policy) forbidden(addr netip.Addr) error {
	if !addr.IsValid() || addr.Zone() != "" {
		return &Refusal{Code: CodeName, Sentence: "zone ids are not allowed", Hint: "leave out the % and what follows it"}
	}
	err := p.options.Forbidden(addr)
	if err == nil {
		return nil
	}
	inner := addr.Unmap()
	if nat64.Contains(inner) {
		b := inner.As16()
		inner = netip.AddrFrom4([4]byte(b[12:]))
	}
	r := &Refusal{Code: CodeForbiddenAddress, Sentence: fmt.Sprintf("%s is never reachable", addr), Hint: err.Error()}
	if contains(unreachable, inner) {
		r.Sentence = "metadata and link-local addresses are never reachable"
		r.Hint = fmt.Sprintf("%s is one of them, and no rule can allow it", inner)
	}
	return r
}

// contains reports whether addr is in one of the prefixes.
func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func joinPrefixes(prefixes []netip.Prefix) string {
	words := make([]string, len(prefixes))
	for i, p := range prefixes {
		words[i] = p.String()
	}
	return strings.Join(words, ", ")
}
