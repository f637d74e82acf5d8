package policy

import (
	"github.com/cedar-policy/cedar-go"
	public "github.com/cedar-policy/cedar-go/ast"
)

// A Statement is a rule or a policy as administrators look at it.
type Statement struct {
	ID     string
	Kind   string // rule or policy
	Effect string // permit or forbid
	Place  string // file:line:column
	Limits []string
	Text   string // in Cedar; a rule is compiled to it
}

// Statements returns all rules and policies, in the order of the files.
func (p *Policy) Statements() []Statement {
	list := make([]Statement, len(p.statements))
	for i, s := range p.statements {
		list[i] = Statement{s.id, s.word, s.effect(), s.place(), s.limits.words(), s.text()}
	}
	return list
}

func (s *statement) effect() string {
	if s.permit {
		return "permit"
	}
	return "forbid"
}

func (s *statement) text() string {
	return string(cedar.NewPolicyFromAST((*public.Policy)(s.parsed)).MarshalCedar())
}
