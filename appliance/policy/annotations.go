package policy

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"sallyport/appliance/policy/spell"
	"sallyport/appliance/policy/yamlfile"
)

// annotations lists those that a policy in a *.cedar file may have. The tests of the docs compare with it.
var annotations = []string{"id", "idle", "lifetime", "grace", "bandwidth", "record", "approval", "principals", "addresses", "hint", "zone"}

const (
	durationHint  = "write a number and its unit, such as 15m, 8h or 1h30m"
	bandwidthHint = "write a number and its unit, such as 500kbit, 20mbit or 1gbit"
)

// annotate reads the annotations of a statement.
func (f *cedarFile) annotate(s *statement, chunk policyText) {
	for _, a := range s.parsed.Annotations {
		key, value := string(a.Key), string(a.Value)
		at := chunk.annotation(key)
		if !slices.Contains(annotations, key) {
			f.Fault(at, spell.DidYouMean(key, annotations, "known are @"+strings.Join(annotations, ", @")), "there is no annotation @%s", key)
			continue
		}
		switch key {
		case "id":
			s.id = value
			if !isID(value) {
				f.Fault(at, "", "id %q must be 1 to 64 printable characters without a quote", value)
			}
			continue
		case "hint":
			s.hint = value
			if !isPlain(value, maxHint) {
				f.Fault(at, "", "@hint must be 1 to %d printable characters", maxHint)
			}
			continue
		case "zone":
			if zone, ok := zoneOf(f.File, value, "@zone", at); ok {
				s.zone = zone
			}
			continue
		}
		switch {
		case s.parsed.Effect == ast.EffectForbid:
			f.Fault(at, "limits stand at what permits", "@%s on a forbid limits nothing", key)
		case actionsOf(s.parsed.Action)&onTargets == 0:
			f.Fault(at, "", "@%s limits flows, and this policy is about none", key)
		default:
			f.limit(&s.limits, at, key, value)
		}
	}
}

// limit reads one annotation that limits.
func (f *cedarFile) limit(l *limits, at yamlfile.Position, key, value string) {
	duration := func(into *time.Duration) {
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			f.Fault(at, durationHint, "@%s is %q, which is not a length of time", key, value)
			return
		}
		*into = d
	}
	switch key {
	case "idle":
		duration(&l.idle)
	case "lifetime":
		duration(&l.lifetime)
	case "grace":
		duration(&l.grace)
	case "bandwidth":
		var ok bool
		if l.bandwidth, ok = parseBandwidth(value); !ok {
			f.Fault(at, bandwidthHint, "@bandwidth is %q, which is not a rate", value)
		}
	case "record":
		l.record = true
		if value != "" {
			f.Fault(at, "write @record", "@record has no value")
		}
	case "approval":
		l.approval = value
		f.names.checkGroup(f.File, value, at)
	case "principals":
		for part := range strings.SplitSeq(value, ",") {
			principal := strings.TrimSpace(part)
			f.names.checkPrincipal(f.File, principal, at)
			l.principals = append(l.principals, principal)
		}
	case "addresses":
		for part := range strings.SplitSeq(value, ",") {
			if prefix, ok := f.prefix(strings.TrimSpace(part), at); ok {
				l.addresses = append(l.addresses, prefix)
			}
		}
	}
}

func (f *cedarFile) prefix(s string, at yamlfile.Position) (netip.Prefix, bool) {
	prefix, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		f.Fault(at, "such as 10.0.0.0/16", "@addresses has %q, which is not an address with a prefix length", s)
		return prefix, false
	case prefix != prefix.Masked():
		f.Fault(at, "write "+prefix.Masked().String(), "%s has bits beyond its prefix length", prefix)
		return prefix, false
	}
	return prefix, true
}
