package policy

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
)

// A subject is who asks and what they ask for, as Cedar sees them, with the statements that may concern both.
type subject struct {
	policy     *Policy
	request    Request
	principal  types.Entity
	resource   types.Entity
	candidates []*statement
}

func (p *Policy) subject(r Request, resource types.Entity) *subject {
	s := &subject{policy: p, request: r, principal: p.userEntity(r.User, r.Groups), resource: resource}
	orders := p.index.find(s.principal, resource)
	s.candidates = make([]*statement, len(orders))
	for i, order := range orders {
		s.candidates[i] = p.statements[order]
	}
	return s
}

// userEntity is a person in the groups of access.yaml and in those of the identity provider, as far as access.yaml
// knows them.
func (p *Policy) userEntity(user string, more []string) types.Entity {
	var groups []types.EntityUID
	for _, name := range p.memberOf[user] {
		groups = append(groups, uid(typeGroup, name))
	}
	for _, name := range more {
		if _, known := p.groups[name]; known {
			groups = append(groups, uid(typeGroup, name))
		}
	}
	return types.Entity{UID: uid(typeUser, user), Parents: types.NewEntityUIDSet(groups...)}
}

func targetEntity(t Target) types.Entity {
	parents := []types.EntityUID{uid(typeVNet, t.VNet)}
	for k, v := range t.Labels {
		parents = append(parents, labelUID(k, v))
	}
	return types.Entity{
		UID:        uid(typeTarget, t.Name),
		Parents:    types.NewEntityUIDSet(parents...),
		Attributes: types.NewRecord(types.RecordMap{"name": types.String(t.Name)}),
	}
}

func addressEntity(addr netip.Addr, vnet string) types.Entity {
	return types.Entity{
		UID:        uid(typeAddress, addr.String()),
		Parents:    types.NewEntityUIDSet(uid(typeVNet, vnet)),
		Attributes: types.NewRecord(types.RecordMap{"ip": ipValue(addr)}),
	}
}

func ipValue(addr netip.Addr) types.IPAddr {
	addr = addr.Unmap().WithZone("")
	return types.IPAddr(netip.PrefixFrom(addr, addr.BitLen()))
}

// Get makes an entity when a statement looks at it, so that ten thousand targets cost nothing to a request for one.
func (s *subject) Get(id types.EntityUID) (types.Entity, bool) {
	switch {
	case id == s.principal.UID:
		return s.principal, true
	case id == s.resource.UID:
		return s.resource, true
	case id.Type == typeUser:
		return s.policy.userEntity(string(id.ID), nil), true
	case id.Type == typeTarget:
		if t, ok := s.policy.target(string(id.ID)); ok {
			return targetEntity(t), true
		}
	case id.Type == typeAddress:
		if addr, err := netip.ParseAddr(string(id.ID)); err == nil {
			return types.Entity{UID: id, Attributes: types.NewRecord(types.RecordMap{"ip": ipValue(addr)})}, true
		}
	case id.Type == typeAction && slices.Contains(usesTargets.names(), string(id.ID)):
		return types.Entity{UID: id, Parents: types.NewEntityUIDSet(actionUID(use))}, true
	}
	return types.Entity{}, false
}

// A question is what one request asks at one stage. It asks each statement once, for all actions.
type question struct {
	*subject
	stage    stage
	protocol string
	port     uint16
	address  netip.Addr
	contexts map[*time.Location]types.Record
	answers  []answer // of the candidates
}

// An answer is whether a statement fits, or why it cannot say so.
type answer struct {
	fits bool
	err  error
}

func (s *subject) question(st stage, protocol string, port uint16, addr netip.Addr) *question {
	q := &question{subject: s, stage: st, protocol: protocol, port: port, address: addr,
		contexts: make(map[*time.Location]types.Record, 1), answers: make([]answer, len(s.candidates))}
	var done []*time.Location
	for _, c := range s.candidates {
		if !slices.Contains(done, c.zone) {
			done = append(done, c.zone)
			q.askAll(c.zone)
		}
	}
	return q
}

// askAll asks the candidates of one zone together, which costs a fraction of asking one after the other. Cedar's answers
// come in the order of the statements.
func (q *question) askAll(zone *time.Location) {
	_, said := cedar.Authorize(batch{q, zone}, q.subject, q.cedarRequest(Connect, zone))
	fits, errs := said.Reasons, said.Errors
	for i, s := range q.candidates {
		switch {
		case len(fits) > 0 && fits[0].PolicyID == cedar.PolicyID(s.id):
			q.answers[i].fits, fits = true, fits[1:]
		case len(errs) > 0 && errs[0].PolicyID == cedar.PolicyID(s.id):
			q.answers[i].err, errs = errors.New(errs[0].Message), errs[1:]
		}
	}
}

// A batch is the candidates of a question that have the same context and do not look at the action.
type batch struct {
	*question
	zone *time.Location
}

func (b batch) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for _, s := range b.candidates {
			if s.zone == b.zone && s.looksAt&factAction == 0 && !yield(cedar.PolicyID(s.id), s.asked[b.stage]) {
				return
			}
		}
	}
}

// A verdict is what all statements together say about one action.
type verdict struct {
	permits []*statement // that fit, in order
	forbids []*statement
	broken  []*EvaluationError
}

// allowed is Cedar's rule with one more: what cannot be evaluated denies.
func (v verdict) allowed() bool {
	return len(v.permits) > 0 && len(v.forbids) == 0 && len(v.broken) == 0
}

// An EvaluationError says that a policy could not be evaluated, which denies.
type EvaluationError struct {
	Policy string // its id
	Place  string // file:line:column
	Err    error
}

func (e *EvaluationError) Error() string {
	return fmt.Sprintf("%s: policy %q could not be evaluated: %v", e.Place, e.Policy, e.Err)
}

func (e *EvaluationError) Unwrap() error { return e.Err }

// ask asks the candidates about an action.
func (q *question) ask(action string) (v verdict) {
	bit := actionBit(action)
	for i, s := range q.candidates {
		if s.actions&bit == 0 || q.stage == visible && !s.permit { // a forbid hides nothing
			continue
		}
		switch a := q.answer(i, action); {
		case a.err != nil:
			v.broken = append(v.broken, &EvaluationError{s.id, s.place(), a.err})
		case !a.fits:
		case s.permit:
			v.permits = append(v.permits, s)
		default:
			v.forbids = append(v.forbids, s)
		}
	}
	return v
}

func (q *question) answer(i int, action string) answer {
	s := q.candidates[i]
	if s.looksAt&factAction == 0 {
		return q.answers[i]
	}
	fits, err := s.fits(q.stage, q.subject, q.cedarRequest(action, s.zone))
	return answer{fits, err}
}

func (q *question) cedarRequest(action string, zone *time.Location) types.Request {
	return types.Request{Principal: q.principal.UID, Action: actionUID(action), Resource: q.resource.UID, Context: q.context(zone)}
}

// context is what is known at this stage, with the time of a zone. What nobody looks at is left out.
func (q *question) context(zone *time.Location) types.Record {
	if c, ok := q.contexts[zone]; ok {
		return c
	}
	var wanted facts
	for _, s := range q.candidates {
		wanted |= s.looksAt
	}
	wanted &^= unknown[q.stage]
	r, m := q.request, make(types.RecordMap)
	add := func(f facts, name types.String, value types.Value) {
		if wanted&f != 0 {
			m[name] = value
		}
	}
	if q.protocol != "" {
		add(factProtocol, "protocol", types.String(q.protocol))
		add(factPort, "port", types.Long(q.port))
	}
	if q.address.IsValid() {
		add(factAddress, "address", ipValue(q.address))
	}
	if r.Source.IsValid() {
		add(factSource, "source", ipValue(r.Source))
	}
	add(factTransport, "transport", types.String(r.Transport))
	add(factMFA, "mfa", types.Boolean(!r.MFA.IsZero()))
	if !r.MFA.IsZero() {
		add(factMFAAge, "mfa_age", types.Long(max(0, r.Time.Sub(r.MFA)/time.Second)))
	}
	if wanted&(factNow|factTime) != 0 {
		add(factNow, "now", types.NewDatetime(r.Time))
		add(factTime, "time", timeRecord(r.Time.In(zone)))
	}
	c := types.NewRecord(m)
	q.contexts[zone] = c
	return c
}

// looksAt reports whether a statement about flows that may concern both looks at one of the facts.
func (s *subject) looksAt(f facts) bool {
	return slices.ContainsFunc(s.candidates, func(c *statement) bool { return c.actions&onTargets != 0 && c.looksAt&f != 0 })
}
