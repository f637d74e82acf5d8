package policy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go"
	public "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
)

// TestIndexAgreesWithFullScan asks 100,000 random requests of random policies by the index, and of Cedar's own authorizer
// with all policies as they were written.
func TestIndexAgreesWithFullScan(t *testing.T) {
	allowed, broken := 0, 0
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		p := with(t, "rules:\n"+randomRules(rnd), randomStatements(rnd, 30))
		set := make(cedar.PolicyMap)
		for _, s := range p.statements {
			set[cedar.PolicyID(s.id)] = cedar.NewPolicyFromAST((*public.Policy)(s.parsed))
		}
		for range 2000 {
			r := Request{
				User: pick(rnd, "ann", "bob", "carl", "dan"), Groups: some(rnd, "leads", "ops", "unheard"),
				Transport: pick(rnd, "quic", "https"), Time: noon.Add(time.Duration(rnd.IntN(200)) * time.Hour),
			}
			if rnd.IntN(8) > 0 {
				r.Source = netip.AddrFrom4([4]byte{10, byte(rnd.IntN(2)), 0, 1})
			}
			if rnd.IntN(2) == 0 {
				r.MFA = r.Time.Add(-time.Duration(rnd.IntN(100)) * time.Minute)
			}
			action := actions[rnd.IntN(len(actions))]
			s := p.subject(r, randomResource(rnd, p, action))
			protocol, port := pick(rnd, SSH, RDP, TCP), pick[uint16](rnd, 22, 3389, 5432)
			addr := netip.AddrFrom4([4]byte{10, 0, byte(rnd.IntN(2)), 1})

			decision, diagnostic := cedar.Authorize(set, s, types.Request{Principal: s.principal.UID, Action: actionUID(action),
				Resource: s.resource.UID, Context: fullContext(r, protocol, port, addr)})
			want := decision == cedar.Allow && len(diagnostic.Errors) == 0
			v := s.question(resolved, protocol, port, addr).ask(action)
			if v.allowed() != want || len(v.broken) != len(diagnostic.Errors) {
				t.Fatalf("seed %d: %s on %s: %+v\nby the index %v with %d errors, by all %v with %v", seed, action, s.resource.UID, r, v.allowed(), len(v.broken), want, diagnostic.Errors)
			}
			if want {
				allowed++
			}
			if len(v.broken) > 0 {
				broken++
			}
		}
	}
	if allowed < 5000 || broken < 1000 {
		t.Errorf("of 100,000 requests %d were allowed and %d could not be evaluated: the test says little", allowed, broken)
	}
}

func randomResource(rnd *rand.Rand, p *Policy, action string) types.Entity {
	switch {
	case action == Admin || action == Bench:
		return types.Entity{UID: thisAppliance}
	case rnd.IntN(4) == 0:
		return addressEntity(netip.AddrFrom4([4]byte{10, 0, 0, byte(rnd.IntN(3))}), pick(rnd, "hub", "lab"))
	}
	return targetEntity(p.targets[rnd.IntN(len(p.targets))])
}

// fullContext is the context with everything in it, made independently of what the engine makes.
func fullContext(r Request, protocol string, port uint16, addr netip.Addr) types.Record {
	berlin, _ := time.LoadLocation("Europe/Berlin")
	local := r.Time.In(berlin)
	m := types.RecordMap{
		"protocol": types.String(protocol), "port": types.Long(port), "address": types.IPAddr(netip.PrefixFrom(addr, 32)),
		"transport": types.String(r.Transport), "mfa": types.Boolean(!r.MFA.IsZero()), "now": types.NewDatetime(r.Time),
		"time": types.NewRecord(types.RecordMap{"hour": types.Long(local.Hour()), "minute": types.Long(local.Minute()),
			"weekday": types.String(strings.ToLower(local.Format("Mon"))), "date": types.String(local.Format("2006-01-02"))}),
	}
	if r.Source.IsValid() {
		m["source"] = types.IPAddr(netip.PrefixFrom(r.Source, 32))
	}
	if !r.MFA.IsZero() {
		m["mfa_age"] = types.Long(r.Time.Sub(r.MFA).Seconds())
	}
	return types.NewRecord(m)
}

func randomRules(rnd *rand.Rand) string {
	var b strings.Builder
	for i := range 1 + rnd.IntN(8) {
		fmt.Fprintf(&b, "  - {name: rule %d, who: [%q, %q], targets: [%q, %q], protocols: [%s]}\n", i,
			pick(rnd, "ann", "group:ops", "carl", "group:leads"), pick(rnd, "bob", "dan", "group:leads"),
			pick(rnd, "db-1", "db-*", "*-1"), pick(rnd, "web-1", "desk-1", "d*"), pick(rnd, "ssh", "ssh, rdp", "tcp"))
	}
	return b.String()
}

func randomStatements(rnd *rand.Rand, n int) string {
	var b strings.Builder
	for range n {
		principal := pick(rnd, "", "", ` == User::"ann"`, ` == User::"dan"`, ` in Group::"ops"`, ` in Group::"leads"`, ` is User`, ` is User in Group::"ops"`)
		resource := pick(rnd, "", ` == Target::"db-1"`, ` in Label::"env=prod"`, ` in Label::"env=test"`, ` in VNet::"lab"`, ` is Target`,
			` is Address`, ` == Address::"10.0.0.1"`, ` is Target in VNet::"hub"`)
		action := pick(rnd, ` in Action::"use"`, ` in Action::"use"`, ` == Action::"connect"`, ` in [Action::"upload", Action::"record_exempt"]`)
		if rnd.IntN(6) == 0 {
			action, resource = pick(rnd, ` == Action::"admin"`, ` in [Action::"bench", Action::"admin"]`), pick(rnd, "", ` == Appliance::"this"`, ` is Appliance`)
		}
		fmt.Fprintf(&b, "%s (principal%s, action%s, resource%s)", pick(rnd, "permit", "permit", "permit", "forbid"), principal, action, resource)
		for range rnd.IntN(4) {
			fmt.Fprintf(&b, " %s { %s }", pick(rnd, "when", "when", "unless"), pick(rnd,
				`[User::"ann", User::"bob"].contains(principal)`, `principal in [Group::"ops", Group::"leads"]`,
				`principal == User::"carl" || principal in Group::"leads"`, `resource in [Label::"env=prod", Label::"env=test"]`,
				`User::"bob" in Group::"ops"`, `context.mfa`, `context has mfa_age && context.mfa_age < 1800`, `context.time.hour >= 9`,
				`context.source.isInRange(ip("10.0.0.0/16"))`, `context.transport == "quic"`, `context.now < datetime("2026-03-06")`,
				`action == Action::"connect"`, `resource == Target::"web-1"`))
		}
		b.WriteString(";\n")
	}
	return b.String()
}

// BenchmarkDecide decides among 1,000 policies on one of 10,000 targets, and fails where that takes more than 200 µs in the
// mean.
func BenchmarkDecide(b *testing.B) {
	p := large(b)
	r := Request{User: "u-77", Target: "t-05432", Protocol: SSH, Opaque: true, Time: noon, MFA: noon, Transport: "quic",
		Source: netip.MustParseAddr("192.0.2.7")}
	if _, err := p.Decide(r); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Decide(r); err != nil {
			b.Fatal(err)
		}
	}
	if mean := b.Elapsed() / time.Duration(b.N); b.N >= 100 && mean > 200*time.Microsecond { // a single one says nothing
		b.Errorf("a decision takes %v", mean)
	}
	b.ReportMetric(float64(len(p.subject(r, targetEntity(p.targets[5432])).candidates)), "asked/op")
}

// large has 100 groups, 1,000 policies of which 20 concern everybody, and 10,000 targets.
func large(t testing.TB) *Policy {
	var yaml, policies strings.Builder
	yaml.WriteString("groups:\n")
	for g := range 100 {
		fmt.Fprintf(&yaml, "  g-%d: [u-%d, u-%d, u-%d]\n", g, g, (g+1)%100, (g+50)%100)
	}
	yaml.WriteString("targets:\n")
	for i := range 10_000 {
		fmt.Fprintf(&yaml, "  - {name: t-%05d, vnet: hub, address: 10.0.0.1, protocols: {ssh: 22}, labels: {env: e-%d, app: a-%d}}\n", i, i%10, i%200)
	}
	for i := range 980 {
		fmt.Fprintf(&policies, "permit (principal in Group::\"g-%d\", action in Action::\"use\", resource in Label::\"%s\")\nwhen { context.protocol == \"ssh\" && context.port == 22 };\n",
			i%100, pick(rand.New(rand.NewPCG(uint64(i), 1)), "env=e-2", fmt.Sprintf("app=a-%d", i%200)))
	}
	for i := range 20 {
		fmt.Fprintf(&policies, "@id(\"everybody %d\") forbid (principal, action in Action::\"use\", resource is Target)\nwhen { context.time.hour == %d && (!context.mfa || context.source.isInRange(ip(\"10.0.%d.0/24\"))) };\n", i, i%24, i)
	}
	p, err := Parse([]File{{"access.yaml", []byte(yaml.String())}, {"a.cedar", []byte(policies.String())}}, fakes)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
