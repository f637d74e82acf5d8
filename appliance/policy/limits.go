package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits are what one statement demands of the flows that it permits; zero values demand nothing.
type limits struct {
	idle       time.Duration
	lifetime   time.Duration
	grace      time.Duration
	bandwidth  int64 // bits a second
	record     bool
	principals []string       // users on the target; "{user}" and "{target}" stand for names
	approval   string         // the group that must say yes
	addresses  []netip.Prefix // where the target's name may lead
}

// limitTo narrows the grant by a statement that permits it: the strictest limits of all hold.
func (g *Grant) limitTo(s *statement) {
	if slices.Contains(g.Policies, s.id) {
		return
	}
	g.Policies = append(g.Policies, s.id)
	g.Idle = shorter(g.Idle, s.limits.idle)
	g.Lifetime = shorter(g.Lifetime, s.limits.lifetime)
	g.Grace = shorter(g.Grace, s.limits.grace)
	g.Bandwidth = shorter(g.Bandwidth, s.limits.bandwidth)
	g.Record = g.Record || s.limits.record
	g.Principals = g.common(s.limits.principals)
	if a := s.limits.approval; a != "" && !slices.Contains(g.Approval, a) {
		g.Approval = append(g.Approval, a)
	}
}

// shorter returns the shorter of two limits, of which 0 is none.
func shorter[T ~int64](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

var bandwidthPattern = regexp.MustCompile(`^([1-9][0-9]{0,8})(kbit|mbit|gbit)$`)

// parseBandwidth reads 20mbit as bits a second.
func parseBandwidth(s string) (int64, bool) {
	m := bandwidthPattern.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	return n * map[string]int64{"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}[m[2]], err == nil
}

func formatBandwidth(bits int64) string {
	for _, unit := range []struct {
		bits int64
		name string
	}{{1e9, "gbit"}, {1e6, "mbit"}} {
		if bits%unit.bits == 0 {
			return fmt.Sprintf("%d%s", bits/unit.bits, unit.name)
		}
	}
	return fmt.Sprintf("%dkbit", bits/1e3)
}

// words lists the limits as annotations have them.
func (l limits) words() (words []string) {
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"idle", l.idle}, {"lifetime", l.lifetime}, {"grace", l.grace}} {
		if d.d > 0 {
			words = append(words, d.name+" "+d.d.String())
		}
	}
	if l.bandwidth > 0 {
		words = append(words, "bandwidth "+formatBandwidth(l.bandwidth))
	}
	if l.record {
		words = append(words, "record")
	}
	if len(l.principals) > 0 {
		words = append(words, "principals "+strings.Join(l.principals, ", "))
	}
	if l.approval != "" {
		words = append(words, "approval by "+l.approval)
	}
	if len(l.addresses) > 0 {
		words = append(words, "addresses "+joinPrefixes(l.addresses))
	}
	return words
}
