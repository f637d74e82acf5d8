package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestAgreesWithReference asks random requests of random policies, and a reference that is too simple to be wrong.
// Most requests are denied; a grant that no single rule explains is the failure that matters.
func TestAgreesWithReference(t *testing.T) {
	granted := 0
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		form := randomForm(rnd)
		p := parse(t, form.yaml())
		for range 200 {
			r := Request{
				User:     pick(rnd, "ann", "bob", "carl", "*", "group:ops"),
				Target:   pick(rnd, "a-1", "a-2", "b-1", "b-2", "c"),
				VNet:     pick(rnd, "", "", "", "hub", "lab"),
				Protocol: pick(rnd, SSH, RDP, TCP),
				Port:     pick[uint16](rnd, 0, 0, 22, 2222, 3389, 5432),
			}
			want := form.reference(r)
			g, err := p.Decide(r)
			if want != (err == nil) {
				t.Fatalf("seed %d: %+v: got %v, want granted %v\n%s", seed, r, err, want, form.yaml())
			}
			if want {
				granted++
				if g.Protocol != r.Protocol || r.Port != 0 && g.Port != r.Port || g.Target != r.Target {
					t.Fatalf("seed %d: asked %+v, granted %+v", seed, r, g)
				}
			}
		}
	}
	if granted < 1000 {
		t.Errorf("only %d requests were granted: the test says little", granted)
	}
}

func pick[T any](rnd *rand.Rand, from ...T) T { return from[rnd.IntN(len(from))] }

// some returns a random part of from, often none.
func some[T any](rnd *rand.Rand, from ...T) (part []T) {
	if rnd.IntN(2) == 0 {
		return nil
	}
	for _, v := range from {
		if rnd.IntN(2) == 0 {
			part = append(part, v)
		}
	}
	return part
}

type randomPolicy struct {
	ops     []string
	targets []randomTarget
	rules   []randomRule
}

type randomTarget struct {
	name, vnet, env string
	ports           map[string][]uint16
}

type randomRule struct {
	who, targets, protocols, vnets []string
	env                            string
	ports                          []uint16
}

func randomForm(rnd *rand.Rand) (f randomPolicy) {
	f.ops = some(rnd, "ann", "bob")
	for _, name := range []string{"a-1", "a-2", "b-1", "b-2"} {
		t := randomTarget{name, pick(rnd, "hub", "lab"), pick(rnd, "prod", "test"), map[string][]uint16{SSH: {22}}}
		if rnd.IntN(2) == 0 {
			t.ports[SSH] = []uint16{2222, 22}
		}
		if rnd.IntN(2) == 0 {
			t.ports[RDP] = []uint16{3389}
		}
		if rnd.IntN(2) == 0 {
			t.ports[TCP] = []uint16{5432, 22}
		}
		f.targets = append(f.targets, t)
	}
	for range rnd.IntN(4) {
		r := randomRule{
			who:       append(some(rnd, "bob", "group:ops", "*"), pick(rnd, "ann", "carl")),
			targets:   some(rnd, "a-*", "b-1", "*-2"),
			protocols: some(rnd, SSH, RDP, TCP),
			vnets:     some(rnd, "hub", "lab"),
			ports:     some[uint16](rnd, 22, 2222, 3389, 5432),
			env:       pick(rnd, "", "prod", "test"),
		}
		if len(r.targets) == 0 && r.env == "" {
			r.targets = []string{"*"}
		}
		f.rules = append(f.rules, r)
	}
	return f
}

func (f randomPolicy) yaml() string {
	var b strings.Builder
	fmt.Fprintf(&b, "groups: {ops: [%s]}\ntargets:\n", strings.Join(f.ops, ", "))
	for _, t := range f.targets {
		fmt.Fprintf(&b, "  - name: %s\n    vnet: %s\n    address: %s.corp\n    labels: {env: %s}\n    protocols:\n", t.name, t.vnet, t.name, t.env)
		for protocol, ports := range t.ports {
			fmt.Fprintf(&b, "      %s: [%s]\n", protocol, joinPorts(ports))
		}
	}
	fmt.Fprintf(&b, "  - {name: x, vnet: hub, address: x, protocols: ssh}\n  - {name: y, vnet: lab, address: y, protocols: ssh}\nrules:\n")
	for i, r := range f.rules {
		fmt.Fprintf(&b, "  - name: rule %d\n    who: [%q]\n", i, strings.Join(r.who, `", "`))
		b.WriteString(strings.ReplaceAll(yamlLists(r), `\"`, `"`))
	}
	if len(f.rules) == 0 {
		b.WriteString("  []\n")
	}
	return strings.ReplaceAll(b.String(), `\"`, `"`)
}

func yamlLists(r randomRule) (s string) {
	list := func(key string, words []string) {
		if len(words) > 0 {
			s += fmt.Sprintf("    %s: [\"%s\"]\n", key, strings.Join(words, `", "`))
		}
	}
	list("targets", r.targets)
	list("protocols", r.protocols)
	list("vnets", r.vnets)
	if r.env != "" {
		s += "    labels: {env: " + r.env + "}\n"
	}
	if len(r.ports) > 0 {
		s += "    ports: [" + joinPorts(r.ports) + "]\n"
	}
	return s
}

// reference says whether a request is allowed, the slow way: one target, one rule, one condition after another.
func (f randomPolicy) reference(r Request) bool {
	for _, t := range f.targets {
		if t.name != r.Target {
			continue
		}
		if r.VNet != "" && r.VNet != t.vnet {
			return false
		}
		offered, ok := t.ports[r.Protocol]
		if !ok {
			return false
		}
		port := r.Port
		if port == 0 {
			port = offered[0]
		}
		if !slices.Contains(offered, port) {
			return false
		}
		for _, rule := range f.rules {
			person := false
			for _, who := range rule.who {
				switch who {
				case "*":
					person = true
				case "group:ops":
					person = person || slices.Contains(f.ops, r.User)
				default:
					person = person || who == r.User
				}
			}
			if !person {
				continue
			}
			if len(rule.targets) > 0 {
				named := slices.Contains(rule.targets, "*")
				named = named || slices.Contains(rule.targets, "a-*") && strings.HasPrefix(t.name, "a-")
				named = named || slices.Contains(rule.targets, "*-2") && strings.HasSuffix(t.name, "-2")
				named = named || slices.Contains(rule.targets, t.name)
				if !named {
					continue
				}
			}
			if rule.env != "" && rule.env != t.env {
				continue
			}
			if len(rule.vnets) > 0 && !slices.Contains(rule.vnets, t.vnet) {
				continue
			}
			if len(rule.ports) > 0 && !slices.Contains(rule.ports, port) {
				continue
			}
			if len(rule.protocols) > 0 && !slices.Contains(rule.protocols, r.Protocol) {
				continue
			}
			if len(rule.protocols) == 0 && r.Protocol == TCP {
				continue
			}
			return true
		}
		return false
	}
	return false
}
