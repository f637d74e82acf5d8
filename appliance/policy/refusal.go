package policy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sallyport/appliance/policy/spell"
)

// The codes of refusals; wire, command, portal and audit use the same.
const (
	CodeTargetUnknown    = "E_TARGET_UNKNOWN"    // no such target, or none that this person may see
	CodeDenied           = "E_DENIED"            // visible, but not allowed
	CodePortDenied       = "E_PORT_DENIED"       // visible, but not on this port
	CodePort             = "E_PORT"              // not a port
	CodeName             = "E_NAME"              // not a name
	CodeAddressMode      = "E_ADDRESS_MODE"      // an address where only names are allowed
	CodeForbiddenAddress = "E_FORBIDDEN_ADDRESS" // an address that no policy can allow
	CodePortal           = "E_PORTAL"            // allowed in the portal, and not by a native client
	CodeRecording        = "E_RECORDING"         // to be recorded, and there is no recording
	CodeShare            = "E_SHARE"             // whoever makes or has made a guest link may not, or not that
)

// A Refusal is the policy's no: one plain sentence without a full stop, and what to do.
type Refusal struct {
	Code     string
	Sentence string
	Hint     string // may be empty
	Rule     string // the rule or policy that refuses, or that made the target visible; empty where the person may not know of one
	Err      error  // *EvaluationErrors, for the log; nil unless a policy could not be evaluated
}

func (r *Refusal) Error() string { return r.Sentence }

func (r *Refusal) Unwrap() error { return r.Err }

// unknown is the one answer for targets that do not exist and for those that the person may not see.
func (p *Policy) unknown(r Request, typed string) *Refusal {
	hint := "sallyport ls shows the targets that you may use"
	if near := p.near(r, typed); len(near) > 0 {
		hint = "near: " + strings.Join(near, ", ")
	}
	return &Refusal{Code: CodeTargetUnknown, Sentence: fmt.Sprintf("no target %q that you may use", typed), Hint: hint}
}

// near returns up to three names like the typed one, of targets that the person may see.
func (p *Policy) near(r Request, typed string) (near []string) {
	names := make([]string, len(p.targets))
	for i, t := range p.targets {
		names[i] = t.Name
	}
	for _, name := range spell.Near(typed, names, maxNear) {
		if t, ok := p.target(name); ok && len(near) < 3 && len(p.subject(r, targetEntity(t)).seenBy()) > 0 {
			near = append(near, name)
		}
	}
	return near
}

// maxNear bounds the names that a request for an unknown one is compared with further.
const maxNear = 200

// refusal says why a visible target is not allowed in this way.
func (q *question) refusal(t Target, v verdict) *Refusal {
	where := joinHostPort(t.Name, q.port)
	if q.address.IsValid() && q.address.String() != t.Host {
		where += " at " + q.address.String()
	}
	switch {
	case len(v.forbids) > 0:
		r := denied(where, v.forbids[0], v.forbids[0].looksAtHint())
		r.Err = joinErrors(v.broken)
		return r
	case len(v.broken) > 0:
		return broken(where+" denied", v.broken)
	}
	return q.unpermitted(t, q.protocol, q.port, where)
}

// unpermitted is the answer for a visible target that no statement allows in this way. It names the one that comes
// nearest to allowing it.
func (s *subject) unpermitted(t Target, protocol string, port uint16, where string) *Refusal {
	nearest, may := s.seenBy()[0], s.usable(t)
	hint := "you may use " + joinOffers(may) + " there; ask an administrator for more"
	if slices.Contains(t.offer(protocol), port) {
		if fits := s.question(offered, protocol, port, netip.Addr{}).ask(Connect).permits; len(fits) > 0 {
			return denied(where, fits[0], fits[0].looksAtHint())
		}
	}
	if len(may) > 0 && !offersPort(may, port) {
		return portDenied(port, nearest.id, may)
	}
	return denied(where, nearest, hint)
}

// looksAtHint says what the answer depends on, if the statement has no hint of its own.
func (s *statement) looksAtHint() string {
	if words := s.looksAt.words(); words != "" {
		return fmt.Sprintf("the %s looks at %s; ask an administrator", s.word, words)
	}
	return "ask an administrator"
}

// denied is the answer for what a statement does not allow.
func denied(where string, by *statement, hint string) *Refusal {
	return &Refusal{
		Code:     CodeDenied,
		Sentence: fmt.Sprintf("%s denied by %s", where, by),
		Hint:     cmp.Or(by.hint, hint),
		Rule:     by.id,
	}
}

// broken is the answer where a statement could not be evaluated.
func broken(what string, errs []*EvaluationError) *Refusal {
	return &Refusal{
		Code:     CodeDenied,
		Sentence: fmt.Sprintf("%s: policy %q could not be evaluated", what, errs[0].Policy),
		Hint:     "an administrator must mend it; the appliance's log says what is wrong",
		Rule:     errs[0].Policy,
		Err:      joinErrors(errs),
	}
}

func joinErrors(errs []*EvaluationError) error {
	plain := make([]error, len(errs))
	for i, err := range errs {
		plain[i] = err
	}
	return errors.Join(plain...)
}

// needsPortal is the answer where a connection is allowed and one of its channels is not: the bytes of a native client
// are opaque, and nothing in them can be held back.
func needsPortal(t Target, port uint16, channel string, v verdict) *Refusal {
	where := joinHostPort(t.Name, port)
	r := &Refusal{Code: CodePortal, Hint: "use the portal"}
	switch {
	case len(v.forbids) > 0:
		r.Sentence = fmt.Sprintf("%s needs the portal: %s is denied by %s", where, channel, v.forbids[0])
		r.Hint, r.Rule, r.Err = cmp.Or(v.forbids[0].hint, r.Hint), v.forbids[0].id, joinErrors(v.broken)
	case len(v.broken) > 0:
		return broken(where+" denied", v.broken)
	default:
		r.Sentence = fmt.Sprintf("%s needs the portal: nothing allows %s", where, channel)
	}
	return r
}

func offersPort(offers []Offer, port uint16) bool {
	return slices.ContainsFunc(offers, func(o Offer) bool { return slices.Contains(o.Ports, port) })
}

func portDenied(port uint16, rule string, offers []Offer) *Refusal {
	var ports []uint16
	for _, o := range offers {
		ports = append(ports, o.Ports...)
	}
	slices.Sort(ports)
	return &Refusal{
		Code:     CodePortDenied,
		Sentence: fmt.Sprintf("port %d is not part of this grant (%s)", port, joinPorts(slices.Compact(ports))),
		Hint:     "use one of these ports, or ask an administrator to add it to the target and the rule",
		Rule:     rule,
	}
}

// joinPorts is "22, 3389".
func joinPorts(ports []uint16) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = strconv.Itoa(int(p))
	}
	return strings.Join(words, ", ")
}

// joinOffers is "ssh on 22, tcp on 5432, 5433".
func joinOffers(offers []Offer) string {
	if len(offers) == 0 {
		return "nothing"
	}
	words := make([]string, len(offers))
	for i, o := range offers {
		words[i] = o.Protocol + " on " + joinPorts(o.Ports)
	}
	return strings.Join(words, ", ")
}

// joinHostPort is "db-1:22" or "[fd00::5]:22"; without the port when that is 0.
func joinHostPort(host string, port uint16) string {
	if port == 0 {
		return host
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(port))
}
