package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// DecideAddress is the second decision: may the flow of this grant go to addr, which is what the grant's Host resolved
// to? Dial only an address for which it has returned nil. Its error is a *Refusal.
func (p *Policy) DecideAddress(g Grant, addr netip.Addr) error {
	if g.Rule == "" {
		return &Refusal{Code: CodeDenied, Sentence: fmt.Sprintf("%s denied: no rule allows it", addr)}
	}
	if err := p.forbidden(addr); err != nil {
		return err
	}
	if g.address.IsValid() && g.address != addr.Unmap() {
		return &Refusal{
			Code:     CodeDenied,
			Sentence: fmt.Sprintf("%s is not the address of %s", addr, g.Target),
			Rule:     g.Rule,
		}
	}
	for _, l := range g.limits {
		if !contains(l.addresses, addr.Unmap()) {
			return &Refusal{
				Code:     CodeDenied,
				Sentence: fmt.Sprintf("%s at %s denied by rule %q", joinHostPort(g.Target, g.Port), addr, l.rule),
				Hint:     "the rule allows " + joinPrefixes(l.addresses),
				Rule:     l.rule,
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

func joinPrefixes(prefixes []netip.Prefix) string {
	words := make([]string, len(prefixes))
	for i, p := range prefixes {
		words[i] = p.String()
	}
	return strings.Join(words, ", ")
}
