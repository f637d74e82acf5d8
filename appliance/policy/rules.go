package policy

import (
	"path"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// rule checks one rule and makes it a statement.
func (c *checker) rule(file string, i int, r ruleForm, named map[string]int) *statement {
	c.checkRuleName(i, r.Name, named)
	if len(r.Who) == 0 {
		c.Fault(c.At("rules", i), `such as who: [ann, group:ops] or who: ["*"]`, "rule %q does not say who", r.Name)
	}
	for j, who := range r.Who {
		c.checkWho(who, "rules", i, "who", j)
	}
	for j, pattern := range r.Targets {
		c.checkPattern(pattern, "rules", i, "targets", j)
	}
	for j, vnet := range r.VNets {
		c.checkVNet(vnet, "rules", i, "vnets", j)
	}
	c.checkLabels(r.Labels, "rules", i, "labels")
	for j, protocol := range r.Protocols {
		if !slices.Contains(protocols, protocol) {
			c.Fault(c.At("rules", i, "protocols", j), "known are ssh, rdp and tcp", "protocol %q is not known", protocol)
		}
	}
	for j, prefix := range r.Addresses {
		if prefix.IsValid() && prefix != prefix.Masked() {
			c.Fault(c.At("rules", i, "addresses", j), "write "+prefix.Masked().String(), "%s has bits beyond its prefix length", prefix)
		}
	}
	for _, key := range []string{"targets", "labels", "protocols", "ports", "addresses", "vnets"} {
		if c.Has("rules", i, key) && c.isEmpty(r, key) {
			c.Fault(c.KeyAt("rules", i, key), "leave the key out to mean all", "%s of rule %q is empty", key, r.Name)
		}
	}
	if r.Approval != "" {
		c.checkGroup(c.File, r.Approval, c.At("rules", i, "approval"))
	}
	for j, principal := range r.Principals {
		c.checkPrincipal(c.File, principal, c.At("rules", i, "principals", j))
	}
	if c.Has("rules", i, "hint") && !isPlain(r.Hint, maxHint) {
		c.Fault(c.At("rules", i, "hint"), "", "hint of rule %q must be 1 to %d printable characters", r.Name, maxHint)
	}
	c.checkReach(i, r)
	return &statement{
		id: r.Name, word: "rule", file: file, at: c.At("rules", i), zone: c.zone, hint: r.Hint, limits: r.limits(), parsed: r.policy(),
	}
}

// own is the statement of one of the lists of people that the appliance itself has.
func (c *checker) own(file, key string, who []string, may ...string) *statement {
	p := ast.Permit()
	permitted := make([]types.EntityUID, len(may))
	for i, action := range may {
		permitted[i] = actionUID(action)
	}
	p.ActionInSet(permitted...)
	allowPeople(p, who)
	return &statement{id: path.Base(file) + "#" + key, word: "rule", file: file, at: c.KeyAt(key), zone: c.zone, parsed: p}
}

func (c *checker) isEmpty(r ruleForm, key string) bool {
	return map[string]int{
		"targets": len(r.Targets), "labels": len(r.Labels), "protocols": len(r.Protocols),
		"ports": len(r.Ports), "addresses": len(r.Addresses), "vnets": len(r.VNets),
	}[key] == 0
}

// checkReach wants a rule to be about something: targets, or addresses.
func (c *checker) checkReach(i int, r ruleForm) {
	at := c.At("rules", i)
	switch {
	case r.namesTargets():
	case len(r.Addresses) == 0:
		c.Fault(at, `give targets, labels or addresses; targets: ["*"] means all`, "rule %q reaches nothing", r.Name)
	case len(r.VNets) == 0 && len(c.vnets) == 0:
		c.Fault(at, "give vnets", "rule %q does not say in which vnet its addresses lie", r.Name)
	case len(r.Ports) > 0 && len(r.Protocols) != 1:
		c.Fault(at, "make one rule for each protocol", "rule %q is about addresses and has ports, so it must have one protocol", r.Name)
	case len(r.Ports) == 0 && slices.Contains(r.Protocols, TCP):
		c.Fault(at, "such as ports: [5432]", "rule %q is about addresses and allows tcp, so it must have ports", r.Name)
	}
}

func (c *checker) checkRuleName(i int, name string, named map[string]int) {
	if !c.Has("rules", i, "name") {
		c.Fault(c.At("rules", i), "the person who is refused sees it", "rule %d has no name", i+1)
		return
	}
	at := c.At("rules", i, "name")
	if first, twice := named[name]; twice {
		c.Fault(at, "", "rule %q is there twice; the first is in line %d", name, c.At("rules", first, "name").Line)
		return
	}
	named[name] = i
	if !isPlain(name, 64) || strings.Contains(name, `"`) {
		c.Fault(at, "", "rule name %q must be 1 to 64 printable characters without a quote", name)
	}
}

// checkPattern wants a name without * to be the name of a target: a slip there would deny in silence.
func (c *checker) checkPattern(pattern string, steps ...any) {
	at := c.At(steps...)
	if !targetName.MatchString(strings.ReplaceAll(pattern, "*", "x")) {
		c.Fault(at, "such as db-1 or web-*", "%q is not a target name or pattern", pattern)
		return
	}
	if strings.Contains(pattern, "*") {
		return
	}
	c.checkTarget(c.File, pattern, at)
}
