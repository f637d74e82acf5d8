package policy

import (
	"maps"
	"slices"
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// policy is the rule as Cedar has it: a permit of everything in use. What the scope can say stands there, because the
// index looks at it; what it cannot, such as several people, comes first among the conditions.
func (r ruleForm) policy() *ast.Policy {
	p := ast.Permit().ActionIn(actionUID(use))
	if r.Share {
		p.ActionInSet(actionUID(use), actionUID(Share))
	}
	allowPeople(p, r.Who)
	if r.namesTargets() {
		r.allowTargets(p)
		p.When(r.protocolsAndPorts())
	} else {
		r.allowAddresses(p)
	}
	return p
}

func (r ruleForm) limits() limits {
	l := limits{idle: r.Idle, lifetime: r.Lifetime, grace: r.Grace, bandwidth: int64(r.Bandwidth), record: r.Record, approval: r.Approval, principals: r.Principals}
	if r.namesTargets() {
		l.addresses = r.Addresses
	}
	return l
}

// namesTargets reports whether the rule is about named targets; the others are about addresses.
func (r ruleForm) namesTargets() bool {
	return len(r.Targets) > 0 || len(r.Labels) > 0
}

// allowPeople makes a permit one for users, "group:NAME" and "*".
func allowPeople(p *ast.Policy, who []string) {
	if slices.Contains(who, "*") {
		return
	}
	var users, groups []types.EntityUID
	for _, w := range who {
		if group, ok := cutGroup(w); ok {
			groups = append(groups, uid(typeGroup, group))
		} else {
			users = append(users, uid(typeUser, w))
		}
	}
	switch {
	case len(users) == 1 && len(groups) == 0:
		p.PrincipalEq(users[0])
	case len(users) == 0 && len(groups) == 1:
		p.PrincipalIn(groups[0])
	case len(groups) == 0:
		p.When(setOf(users).Contains(ast.Principal()))
	case len(users) == 0:
		p.When(ast.Principal().In(setOf(groups)))
	default:
		p.When(setOf(users).Contains(ast.Principal()).Or(ast.Principal().In(setOf(groups))))
	}
}

// allowTargets narrows a permit to the targets, labels and VNets of the rule.
func (r ruleForm) allowTargets(p *ast.Policy) {
	var exact []types.EntityUID
	var like []ast.Node
	for _, pattern := range r.Targets {
		switch {
		case pattern == "*":
			exact, like = nil, []ast.Node{ast.True()}
		case strings.Contains(pattern, "*"):
			like = append(like, ast.Resource().Access("name").Like(likePattern(pattern)))
		default:
			exact = append(exact, uid(typeTarget, pattern))
		}
	}
	labels := slices.Sorted(maps.Keys(r.Labels))
	switch {
	case len(exact) == 1 && len(like) == 0:
		p.ResourceEq(exact[0])
		exact = nil
	case len(labels) > 0:
		p.ResourceIn(labelUID(labels[0], r.Labels[labels[0]]))
		labels = labels[1:]
	default:
		p.ResourceIs(typeTarget)
	}
	if len(exact) > 0 {
		like = append([]ast.Node{setOf(exact).Contains(ast.Resource())}, like...)
	}
	if len(like) > 0 && !slices.Contains(r.Targets, "*") {
		p.When(anyOf(like))
	}
	for _, key := range labels {
		p.When(ast.Resource().In(ast.Value(labelUID(key, r.Labels[key]))))
	}
	r.allowVNets(p)
}

func (r ruleForm) allowVNets(p *ast.Policy) {
	if len(r.VNets) > 0 {
		vnets := make([]types.EntityUID, len(r.VNets))
		for i, vnet := range r.VNets {
			vnets[i] = uid(typeVNet, vnet)
		}
		p.When(ast.Resource().In(setOf(vnets)))
	}
}

// allowAddresses narrows a permit to the addresses of the rule and the ports that they may be tried on: the standard ones
// of its protocols, unless it names others.
func (r ruleForm) allowAddresses(p *ast.Policy) {
	p.ResourceIs(typeAddress)
	var ranges, ports []ast.Node
	for _, prefix := range r.Addresses {
		ranges = append(ranges, ast.Resource().Access("ip").IsInRange(ast.ExtensionCall("ip", ast.String(prefix.String()))))
	}
	if len(ranges) > 0 {
		p.When(anyOf(ranges))
	}
	r.allowVNets(p)
	if len(r.Ports) > 0 {
		p.When(r.protocolsAndPorts())
		return
	}
	for _, protocol := range r.protocols() {
		ports = append(ports, context("protocol").Equal(ast.String(protocol)).And(context("port").Equal(ast.Long(int(standardPort[protocol])))))
	}
	p.When(anyOf(ports))
}

// protocols are those of the rule: tcp is never meant unless it is written.
func (r ruleForm) protocols() []string {
	if len(r.Protocols) == 0 {
		return []string{SSH, RDP}
	}
	return r.Protocols
}

func (r ruleForm) protocolsAndPorts() ast.Node {
	var words, numbers []ast.Node
	for _, protocol := range r.protocols() {
		words = append(words, ast.String(protocol))
	}
	fits := oneOf(context("protocol"), words)
	for _, port := range r.Ports {
		numbers = append(numbers, ast.Long(int(port)))
	}
	if len(numbers) > 0 {
		fits = fits.And(oneOf(context("port"), numbers))
	}
	return fits
}

func context(attribute string) ast.Node { return ast.Context().Access(types.String(attribute)) }

func oneOf(n ast.Node, values []ast.Node) ast.Node {
	if len(values) == 1 {
		return n.Equal(values[0])
	}
	return ast.Set(values...).Contains(n)
}

func anyOf(nodes []ast.Node) ast.Node {
	n := nodes[0]
	for _, next := range nodes[1:] {
		n = n.Or(next)
	}
	return n
}

func setOf(ids []types.EntityUID) ast.Node {
	nodes := make([]ast.Node, len(ids))
	for i, id := range ids {
		nodes[i] = ast.Value(id)
	}
	return ast.Set(nodes...)
}

// likePattern is a pattern of access.yaml, in which * stands for any characters.
func likePattern(pattern string) types.Pattern {
	var parts []any
	for i, part := range strings.Split(pattern, "*") {
		if i > 0 {
			parts = append(parts, types.Wildcard{})
		}
		if part != "" {
			parts = append(parts, part)
		}
	}
	return types.NewPattern(parts...)
}
