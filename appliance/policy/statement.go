package policy

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/cedar-policy/cedar-go"
	public "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"

	"sallyport/appliance/policy/yamlfile"
)

// A statement is one policy of Cedar: a rule of access.yaml, or a permit or forbid of a *.cedar file.
type statement struct {
	id      string
	word    string // what people are told it is: rule or policy
	file    string
	at      yamlfile.Position
	order   int // among all statements
	permit  bool
	actions actionSet // of its scope
	looksAt facts     // in its conditions
	ports   []uint16  // that its conditions name, in their order
	zone    *time.Location
	limits  limits
	hint    string // for who is refused by it
	parsed  *ast.Policy
	asked   [stages]*cedar.Policy
}

// A stage is how much is known when a statement is asked.
type stage int

const (
	visible  stage = iota // who and what: may this person see the target at all?
	offered               // the protocol and port too: is there any way to use it so?
	named                 // all but the address: the first decision on a target that has a DNS name
	resolved              // all
	stages
)

// unknown says which facts are not known at each stage.
var unknown = [stages]facts{
	visible:  inContext,
	offered:  inContext &^ (factProtocol | factPort),
	named:    factAddress,
	resolved: 0,
}

// compile makes the statement ready to be asked.
func (s *statement) compile() {
	s.permit = s.parsed.Effect == ast.EffectPermit
	s.actions = actionsOf(s.parsed.Action)
	for _, c := range s.parsed.Conditions {
		s.looksAt |= factsIn(c.Body)
		s.ports = append(s.ports, portsIn(c.Body)...)
	}
	s.asked[resolved] = s.compiled(0)
	for stage := named; stage >= visible; stage-- {
		if s.looksAt&unknown[stage] == s.looksAt&unknown[stage+1] {
			s.asked[stage] = s.asked[stage+1]
			continue
		}
		s.asked[stage] = s.compiled(unknown[stage])
	}
}

// compiled is the statement as Cedar can evaluate it while some facts are unknown. It permits where the statement fits,
// whatever the effect of that is and whatever the action: one evaluation answers for all actions, and the caller knows
// the rest.
func (s *statement) compiled(unknown facts) *cedar.Policy {
	p := &ast.Policy{Effect: ast.EffectPermit, Principal: s.parsed.Principal, Action: ast.ScopeTypeAll{}, Resource: s.parsed.Resource}
	for _, c := range s.parsed.Conditions {
		c.Body = unknown.bound(c.Body, s.permit == bool(c.Condition))
		p.Conditions = append(p.Conditions, c)
	}
	return cedar.NewPolicyFromAST((*public.Policy)(p))
}

// fits reports whether the statement's principal, resource and conditions fit the request, or why that cannot be said.
func (s *statement) fits(st stage, entities types.EntityGetter, r types.Request) (bool, error) {
	decision, diagnostic := cedar.Authorize(only{s.asked[st]}, entities, r)
	if len(diagnostic.Errors) > 0 {
		return false, errors.New(diagnostic.Errors[0].Message)
	}
	return decision == cedar.Allow, nil
}

// only is a set of one policy.
type only struct{ policy *cedar.Policy }

func (o only) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) { yield("", o.policy) }
}

// String is the statement as sentences name it: rule "operators".
func (s *statement) String() string { return fmt.Sprintf("%s %q", s.word, s.id) }

// place is where it stands: access.yaml:12:5.
func (s *statement) place() string { return fmt.Sprintf("%s:%d:%d", s.file, s.at.Line, s.at.Column) }

func (s *statement) fault(format string, args ...any) Fault {
	return Fault{File: s.file, Line: s.at.Line, Column: s.at.Column, Message: fmt.Sprintf(format, args...)}
}

// portsIn returns the ports that a condition compares context.port with. They are what an address may be tried on.
func portsIn(n ast.IsNode) (ports []uint16) {
	add := func(n ast.IsNode) {
		if v, ok := n.(ast.NodeValue); ok {
			if port, ok := v.Value.(types.Long); ok && port > 0 && port <= 65535 && !slices.Contains(ports, uint16(port)) {
				ports = append(ports, uint16(port))
			}
		}
	}
	isPort := func(n ast.IsNode) bool {
		a, ok := n.(ast.NodeTypeAccess)
		return ok && a.Value == "port" && isContext(a.Arg)
	}
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		switch n := n.(type) {
		case ast.NodeTypeEquals:
			if isPort(n.Left) {
				add(n.Right)
			}
			if isPort(n.Right) {
				add(n.Left)
			}
		case ast.NodeTypeContains:
			if set, ok := n.Left.(ast.NodeTypeSet); ok && isPort(n.Right) {
				for _, e := range set.Elements {
					add(e)
				}
			}
		}
		return true
	})
	return ports
}
