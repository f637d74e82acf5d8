package appliance

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// A device may have a scope, from the code that it enrolled with: some targets, some protocols, an end. A scope only
// narrows. The policy decides first, and for what a scope leaves out it might as well have said no.

// decideNow is decide by the policy in force.
func (g *Gateway) decideNow(r policy.Request, device string) (policy.Grant, error) {
	return g.decide(g.policy.Load(), r, device)
}

// decide is p's first decision on what a device asks for, narrowed to the scope of the device.
func (g *Gateway) decide(p *policy.Policy, r policy.Request, device string) (policy.Grant, error) {
	scope, err := g.Devices.ScopeOf(device)
	if err != nil {
		return policy.Grant{}, err
	}
	if scope.Over(r.Time) { // which may be a time to come
		return policy.Grant{}, auth.ErrDeviceExpired
	}
	if scope.Link != "" {
		return g.decideGuest(scope, p, r)
	}
	return decideWithin(scope, p, r)
}

// decideWithin is decide for a scope. What lies outside is as unknown as what there is not, and no name is suggested.
func decideWithin(scope auth.Scope, p *policy.Policy, r policy.Request) (policy.Grant, error) {
	if scope.IsZero() {
		return p.Decide(r)
	}
	if r.Protocol == policy.Bench && len(scope.Targets)+len(scope.Protocols) > 0 {
		return policy.Grant{}, frame.Refuse("E_DENIED", "this device may reach some targets only, and not measure its way", "measure from another device")
	}
	grant, err := p.Decide(within(scope, p, r))
	switch {
	case err != nil:
		return policy.Grant{}, refusedWithin(scope, r, err)
	case r.Protocol == policy.Bench:
	case !scope.HasTarget(grant.Target):
		return policy.Grant{}, outside(r.Target)
	case !scope.HasProtocol(grant.Protocol):
		return policy.Grant{}, frame.Refuse("E_DENIED", fmt.Sprintf("this device may use %s only, and not %s", strings.Join(scope.Protocols, " and "), grant.Protocol),
			"use another device, or ask an administrator for a code")
	}
	if !scope.Until.IsZero() {
		grant.Timed = true
		if grant.Expires.IsZero() || scope.Until.Before(grant.Expires) {
			grant.Expires = scope.Until
		}
	}
	return grant, nil
}

// refusedWithin is a refusal of the policy's for a device with a scope, which tells of no target outside.
func refusedWithin(scope auth.Scope, r policy.Request, err error) error {
	switch code := string(reasonOf(err).Code); {
	case code == policy.CodeName, code == policy.CodeAddressMode:
		return err
	case code == policy.CodeTargetUnknown, !scope.HasTarget(strings.ToLower(r.Target)):
		return outside(r.Target)
	}
	return err
}

// within chooses the protocol where the request leaves it open and the scope does not.
func within(scope auth.Scope, p *policy.Policy, r policy.Request) policy.Request {
	if r.Protocol != "" || len(scope.Protocols) == 0 {
		return r
	}
	for _, protocol := range scope.Protocols {
		one := r
		one.Protocol = protocol
		if _, err := p.Decide(one); err == nil {
			return one
		}
	}
	return r
}

func outside(target string) error {
	return frame.Refuse(policy.CodeTargetUnknown, fmt.Sprintf("no target %q that this device may use", frame.Clip(target, 253)), "sallyport ls shows the targets that it may use")
}

// scoped says whether a person comes from a device with a scope, or from one that may not go on at all.
func (g *Gateway) scoped(p frame.Peer) bool {
	scope, err := g.Devices.ScopeOf(p.Device)
	return err != nil || !scope.IsZero()
}

// owns says whether something is of who asks: of the same person, and of the same device if that has a scope.
func (g *Gateway) owns(p frame.Peer, user, device string) bool {
	return user == p.User && (device == p.Device || !g.scoped(p))
}

// narrowed is what a scope leaves of a target; false if that is nothing.
func narrowed(t policy.Target, s auth.Scope) (policy.Target, bool) {
	if len(s.Protocols) > 0 {
		t.Offers = slices.DeleteFunc(slices.Clone(t.Offers), func(o policy.Offer) bool { return !s.HasProtocol(o.Protocol) })
	}
	return t, s.HasTarget(t.Name) && (len(s.Protocols) == 0 || len(t.Offers) > 0)
}

func listedScope(s auth.Scope) api.Scope {
	return api.Scope{Targets: s.Targets, Protocols: s.Protocols, Expires: s.Until}
}

// CodeLife is how long a code is good, at most.
const CodeLife = 10 * time.Minute

// A NewCode is a code that somebody wants made.
type NewCode struct {
	api.AskCode
	By audit.Event // who, as the audit log names them
}

// MakeCode makes a code. It is written down before there is one.
func (g *Gateway) MakeCode(ask NewCode) (api.Code, error) {
	now := time.Now()
	valid := cmp.Or(ask.Valid, CodeLife)
	scope := auth.Scope{Targets: ask.Targets, Protocols: ask.Protocols}
	switch {
	case valid < 0 || valid > CodeLife:
		return api.Code{}, frame.Refuse("E_USAGE", fmt.Sprintf("a code is good for at most %v", CodeLife), "")
	case ask.Expires < 0:
		return api.Code{}, frame.Refuse("E_USAGE", "a device must expire in a time to come", "such as 720h")
	case ask.Expires > 0:
		scope.Until = now.Add(ask.Expires).Truncate(time.Microsecond)
	}
	if err := cmp.Or(auth.CheckUser(ask.User), scope.Check(now)); err != nil {
		return api.Code{}, err
	}
	for _, name := range scope.Targets {
		if _, known := g.policy.Load().Target(name); !known {
			return api.Code{}, frame.Refuse(policy.CodeTargetUnknown, fmt.Sprintf("there is no target %q", frame.Clip(name, 64)), "the access files name the targets")
		}
	}
	e := ask.By
	e.Kind, e.User, e.Detail = audit.CodeMade, ask.User, describe(scope)
	e.Detail["valid"] = valid.String()
	if err := g.demand(e); err != nil {
		return api.Code{}, err
	}
	text, err := g.Devices.NewCode(ask.User, valid, scope)
	if err != nil {
		reason := reasonOf(err)
		e.Code, e.Why = string(reason.Code), reason.Sentence
		g.record(e)
		return api.Code{}, err
	}
	g.Log.Info("enrolment code made", "user", ask.User, "valid", valid, "scope", scope, "by", e.By)
	return api.Code{Code: text, User: ask.User, Expires: now.Add(valid).UTC(), Scope: listedScope(scope)}, nil
}

// describe is a scope as the audit log has it.
func describe(s auth.Scope) map[string]string {
	detail := map[string]string{}
	if len(s.Targets) > 0 {
		detail["targets"] = strings.Join(s.Targets, ",")
	}
	if len(s.Protocols) > 0 {
		detail["protocols"] = strings.Join(s.Protocols, ",")
	}
	if s.Link != "" {
		detail["link"] = s.Link
	}
	if !s.Until.IsZero() {
		detail["expires"] = s.Until.UTC().Format(time.RFC3339)
	}
	return detail
}

// newCode makes a code for an administrator.
func (c call) newCode(ask api.AskCode) (any, error) {
	by := ofCaller(audit.CodeMade, c.peer)
	by.Device, by.By = "", c.peer.User
	return c.gateway.MakeCode(NewCode{ask, by})
}
