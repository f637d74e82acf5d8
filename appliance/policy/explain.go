package policy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"
)

// An Explanation says why one request is decided as it is. It is for administrators: it names what the person may not
// know of.
type Explanation struct {
	Request  Request
	Grant    Grant // zero if it is refused
	Err      error // *Refusal
	Policies []Account
}

// An Account is what one statement has to do with a request.
type Account struct {
	ID      string
	Effect  string   // permit or forbid
	Place   string   // file:line:column
	Actions []string // of connect and the channels of the protocol, those that it is about or, if it matched, fits
	Matched bool
	Why     string   // what did not fit: principal, action, resource, condition 2, or an evaluation error
	Limits  []string // of a permit
}

// Explain decides, and lists the statements whose principal or whose resource fits: those that matched first, then those
// that came nearest.
func (p *Policy) Explain(r Request) Explanation {
	e := Explanation{Request: r}
	e.Grant, e.Err = p.Decide(r)
	if e.Err == nil && r.Address.IsValid() {
		e.Grant, e.Err = p.DecideAddress(e.Grant, r.Address)
	}
	q, asked := p.explained(r)
	if q == nil {
		return e
	}
	type ranked struct {
		Account
		rank int
	}
	var all []ranked
	for _, s := range p.statements {
		if a, rank := q.account(s, asked); rank > 0 {
			all = append(all, ranked{a, rank})
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return b.rank - a.rank })
	for _, a := range all {
		e.Policies = append(e.Policies, a.Account)
	}
	return e
}

// explained is the question that a request asks, and the actions in it; nil if it is about nothing that exists.
func (p *Policy) explained(r Request) (*question, []string) {
	if r.Protocol == Bench {
		return p.subject(r, types.Entity{UID: thisAppliance}).question(resolved, "", 0, netip.Addr{}), []string{Bench}
	}
	name, addr, err := p.parseTyped(r.Target)
	if err != nil {
		return nil, nil
	}
	t, found := p.target(name)
	entity := targetEntity(t)
	if addr.IsValid() && len(p.vnets) > 0 {
		vnet := r.VNet
		if vnet == "" {
			vnet = p.vnets[0]
		}
		t, found, entity = Target{Name: addr.String(), VNet: vnet, Host: addr.String()}, true, addressEntity(addr, vnet)
	}
	if !found {
		return nil, nil
	}
	s := p.subject(r, entity)
	if addr.IsValid() {
		t.Offers = s.addressOffers()
	}
	protocol, port := s.choose(t)
	at, stage := r.Address, named
	if literal, err := netip.ParseAddr(t.Host); err == nil {
		at = literal
	}
	if at.IsValid() {
		stage = resolved
	}
	return s.question(stage, protocol, port, at), append([]string{Connect}, channels[protocol]...)
}

// account says what a statement has to do with the question. Its rank is 0 if that is nothing.
func (q *question) account(s *statement, asked []string) (a Account, rank int) {
	a = Account{ID: s.id, Effect: s.effect(), Place: s.place(), Limits: s.limits.words()}
	for _, action := range asked {
		if s.actions&actionBit(action) != 0 {
			a.Actions = append(a.Actions, action)
		}
	}
	principal := q.fitsAlone(&ast.Policy{Principal: s.parsed.Principal, Action: ast.ScopeTypeAll{}, Resource: ast.ScopeTypeAll{}})
	resource := q.fitsAlone(&ast.Policy{Principal: ast.ScopeTypeAll{}, Action: ast.ScopeTypeAll{}, Resource: s.parsed.Resource})
	switch {
	case !principal && !resource:
		return a, 0
	case !principal:
		a.Why = "principal"
		return a, 1
	case !resource:
		a.Why = "resource"
		return a, 1
	case len(a.Actions) == 0:
		a.Why = "action"
		return a, 2
	}
	var fitting []string
	for _, action := range a.Actions {
		fits, err := s.fits(q.stage, q.subject, q.cedarRequest(action, s.zone))
		if err != nil {
			a.Why = "error: " + err.Error()
			return a, 5
		}
		if fits {
			fitting = append(fitting, action)
		}
	}
	if len(fitting) == 0 {
		a.Why = q.firstMisfit(s, a.Actions[0])
		return a, 3
	}
	a.Actions, a.Matched = fitting, true
	return a, 4
}

// fitsAlone reports whether a scope fits.
func (q *question) fitsAlone(scope *ast.Policy) bool {
	v, err := eval.Eval(eval.PolicyToNode(scope).AsIsNode(), eval.Env{Entities: q.subject, Principal: q.principal.UID, Resource: q.resource.UID})
	return err == nil && v == types.Value(types.True)
}

// firstMisfit names the first condition that does not fit.
func (q *question) firstMisfit(s *statement, action string) string {
	r := q.cedarRequest(action, s.zone)
	for i, c := range s.parsed.Conditions {
		body := unknown[q.stage].bound(c.Body, s.permit == bool(c.Condition))
		v, err := eval.Eval(body, eval.Env{Entities: q.subject, Principal: r.Principal, Action: r.Action, Resource: r.Resource, Context: r.Context})
		if err != nil || v != types.Value(types.Boolean(c.Condition)) {
			return fmt.Sprintf("condition %d", i+1)
		}
	}
	return "condition"
}

// String is the explanation as a short text.
func (e Explanation) String() string {
	var b strings.Builder
	r := e.Request
	what := cmp.Or(r.Protocol, e.Grant.Protocol)
	fmt.Fprintf(&b, "%s → %s", r.User, r.Target)
	if what != "" {
		fmt.Fprintf(&b, " by %s", what)
	}
	if !r.Time.IsZero() {
		fmt.Fprintf(&b, " at %s", r.Time.Format(time.RFC3339))
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": denied\n  %v\n", e.Err)
		var no *Refusal
		if errors.As(e.Err, &no) && no.Hint != "" {
			fmt.Fprintf(&b, "  hint: %s\n", no.Hint)
		}
	} else {
		fmt.Fprintf(&b, ": allowed by %q\n", e.Grant.Rule)
		for _, limit := range e.Grant.limitWords() {
			fmt.Fprintf(&b, "  %s\n", limit)
		}
	}
	for i, a := range e.Policies {
		if i == maxShown && !a.Matched {
			fmt.Fprintf(&b, "  … and %d more that do not fit\n", len(e.Policies)-i)
			break
		}
		fmt.Fprintf(&b, "  %s\n", a)
	}
	return b.String()
}

// maxShown is how many statements the text lists unless more of them matched.
const maxShown = 20

// String is one line.
func (a Account) String() string {
	line := fmt.Sprintf("%s %q (%s)", a.Effect, a.ID, a.Place)
	switch {
	case a.Matched:
		line += " fits " + strings.Join(a.Actions, ", ")
	case strings.HasPrefix(a.Why, "error: "):
		line += " cannot be evaluated: " + strings.TrimPrefix(a.Why, "error: ")
	default:
		line += " does not fit: " + a.Why
	}
	if a.Matched && len(a.Limits) > 0 {
		line += "; " + strings.Join(a.Limits, ", ")
	}
	return line
}

// limitWords lists what the grant allows and demands.
func (g Grant) limitWords() (words []string) {
	words = limits{idle: g.Idle, lifetime: g.Lifetime, grace: g.Grace, bandwidth: g.Bandwidth, record: g.Record}.words()
	for _, group := range g.Approval {
		words = append(words, "approval by "+group)
	}
	if len(g.Channels) > 0 {
		words = append(words, "channels "+strings.Join(g.Channels, ", "))
	}
	return words
}
