package policy

import (
	"strings"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// Facts are what a condition can look at beside principal and resource: the action, and the attributes of context.
type facts uint16

const (
	factAction facts = 1 << iota
	factProtocol
	factPort
	factAddress
	factSource
	factTransport
	factMFA
	factMFAAge
	factNow
	factTime
	lastFact

	inContext = lastFact - 1 - factAction
	changing  = factNow | factTime | factMFAAge // with time alone
)

var contextFacts = map[types.String]facts{
	"protocol": factProtocol, "port": factPort, "address": factAddress, "source": factSource, "transport": factTransport,
	"mfa": factMFA, "mfa_age": factMFAAge, "now": factNow, "time": factTime,
}

// factsIn returns what n looks at. Who looks at context as a whole looks at everything in it.
func factsIn(n ast.IsNode) (seen facts) {
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		switch n := n.(type) {
		case ast.NodeTypeAccess:
			if isContext(n.Arg) {
				seen |= contextFacts[n.Value]
				return false
			}
		case ast.NodeTypeHas:
			if isContext(n.Arg) {
				seen |= contextFacts[n.Value]
				return false
			}
		case ast.NodeTypeVariable:
			switch n.Name {
			case "context":
				seen |= inContext
			case "action":
				seen |= factAction
			}
		}
		return true
	})
	return seen
}

func isContext(n ast.IsNode) bool {
	v, ok := n.(ast.NodeTypeVariable)
	return ok && v.Name == "context"
}

// words says to people what a policy looks at, as far as it is theirs to change or to wait for.
func (f facts) words() string {
	var words []string
	for _, w := range []struct {
		of   facts
		word string
	}{
		{factNow | factTime, "the time"},
		{factMFA | factMFAAge, "the second factor"},
		{factSource, "where you are"},
		{factTransport, "the transport"},
		{factAddress, "the target's address"},
	} {
		if f&w.of != 0 {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, ", ")
}

// bound rewrites a condition so that it can be asked while some facts are unknown. With most it becomes what is true
// wherever n may still turn out to be true; otherwise what is true only where n is true whatever the facts are. It never
// looks at an unknown fact, keeps every guard before what it guards, and is about as large as n.
//
// This is how visibility ignores the context, and how the first decision asks before the address is known: a permit is
// asked whether it may fit, a forbid whether it must. The rewritten condition is compiled once and then asked like any
// other, where partial evaluation would make a new policy for each request.
func (unknown facts) bound(n ast.IsNode, most bool) ast.IsNode {
	switch n := n.(type) {
	case ast.NodeTypeAnd:
		return and(unknown.bound(n.Left, most), unknown.bound(n.Right, most))
	case ast.NodeTypeOr:
		return or(unknown.bound(n.Left, most), unknown.bound(n.Right, most))
	case ast.NodeTypeNot:
		return not(unknown.bound(n.Arg, !most))
	case ast.NodeTypeIfThenElse:
		then, otherwise := unknown.bound(n.Then, most), unknown.bound(n.Else, most)
		if factsIn(n.If)&unknown == 0 {
			return ast.NodeTypeIfThenElse{If: n.If, Then: then, Else: otherwise}
		}
		condition := unknown.bound(n.If, true)
		if most {
			return or(and(condition, then), otherwise)
		}
		return and(or(not(condition), then), otherwise)
	}
	if factsIn(n)&unknown != 0 {
		return ast.NodeValue{Value: types.Boolean(most)}
	}
	return n
}

func and(a, b ast.IsNode) ast.IsNode {
	return ast.NodeTypeAnd{BinaryNode: ast.BinaryNode{Left: a, Right: b}}
}

func or(a, b ast.IsNode) ast.IsNode {
	return ast.NodeTypeOr{BinaryNode: ast.BinaryNode{Left: a, Right: b}}
}

func not(a ast.IsNode) ast.IsNode {
	return ast.NodeTypeNot{UnaryNode: ast.UnaryNode{Arg: a}}
}
