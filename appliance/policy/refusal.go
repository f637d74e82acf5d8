package policy

import (
	"fmt"
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
)

// A Refusal is the policy's no: one plain sentence without a full stop, and what to do.
type Refusal struct {
	Code     string
	Sentence string
	Hint     string // may be empty
	Rule     string // the rule that made the target visible; empty where the person may not know of one
}

func (r *Refusal) Error() string { return r.Sentence }

// unknown is the one answer for targets that do not exist and for those that user may not see.
func (p *Policy) unknown(user, typed string) *Refusal {
	var names []string
	for _, t := range p.Visible(user) {
		names = append(names, t.Name)
	}
	hint := "sallyport ls shows the targets that you may use"
	if near := spell.Near(typed, names, 3); len(near) > 0 {
		hint = "near: " + strings.Join(near, ", ")
	}
	return &Refusal{Code: CodeTargetUnknown, Sentence: fmt.Sprintf("no target %q that you may use", typed), Hint: hint}
}

// denied is the answer for a visible target that the rules do not allow in this way.
func denied(target string, port uint16, rule, hint string) *Refusal {
	return &Refusal{
		Code:     CodeDenied,
		Sentence: fmt.Sprintf("%s denied by rule %q", joinHostPort(target, port), rule),
		Hint:     hint,
		Rule:     rule,
	}
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
