package appliance

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sallyport/appliance/api"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// why explains to an administrator how a request would be decided, and by which policies.
func (c call) why() (any, error) {
	r, err := requestOf(c.URL.Query())
	if err != nil {
		return nil, err
	}
	p := c.gateway.policy.Load()
	e := p.Explain(r)
	if device := c.URL.Query().Get("device"); device != "" && e.Err == nil {
		if _, e.Err = c.gateway.decide(p, r, device); e.Err != nil {
			e.Grant = policy.Grant{}
		}
	}
	w := api.Why{Allowed: e.Err == nil, Rule: e.Grant.Rule, Text: e.String(), Policies: []api.PolicyAccount{}}
	if e.Err != nil {
		reason := reasonOf(e.Err)
		w.Code, w.Sentence, w.Hint, w.Rule = string(reason.Code), reason.Sentence, reason.Hint, reason.Rule
	}
	for _, a := range e.Policies {
		w.Policies = append(w.Policies, api.PolicyAccount{ID: a.ID, Effect: a.Effect, Place: a.Place, Actions: a.Actions, Matched: a.Matched, Why: a.Why, Limits: a.Limits})
	}
	return w, nil
}

// requestOf reads a request that may never have been made. Without a time it is made now.
func requestOf(q url.Values) (r policy.Request, err error) {
	r = policy.Request{User: q.Get("user"), Target: q.Get("target"), VNet: q.Get("vnet"), Protocol: q.Get("protocol"), Transport: q.Get("transport"),
		Opaque: true, Time: time.Now()}
	if groups := q.Get("groups"); groups != "" {
		r.Groups = strings.Split(groups, ",")
	}
	for name, addr := range map[string]*netip.Addr{"address": &r.Address, "source": &r.Source} {
		if q.Has(name) {
			if *addr, err = netip.ParseAddr(q.Get(name)); err != nil {
				return r, mustBe(q, name, "an IP address")
			}
		}
	}
	if q.Has("port") {
		port, err := strconv.ParseUint(q.Get("port"), 10, 16)
		if err != nil {
			return r, mustBe(q, "port", "1-65535")
		}
		r.Port = uint16(port)
	}
	if q.Has("at") {
		if r.Time, err = time.Parse(time.RFC3339, q.Get("at")); err != nil {
			return r, mustBe(q, "at", "a time such as 2026-11-23T10:00:00Z")
		}
	}
	if q.Has("mfa_age") {
		age, err := time.ParseDuration(q.Get("mfa_age"))
		if err != nil || age < 0 {
			return r, mustBe(q, "mfa_age", "how long ago, such as 5m")
		}
		r.MFA = r.Time.Add(-age)
	}
	if r.User == "" || r.Target == "" {
		return r, frame.Refuse("E_USAGE", "user and target are needed", "")
	}
	return r, nil
}

// statements lists the rules and policies that are in force, wherever they come from.
func (c call) statements() (any, error) {
	list := []api.PolicyStatement{}
	for _, s := range c.gateway.policy.Load().Statements() {
		list = append(list, api.PolicyStatement(s))
	}
	return list, nil
}

// policyCheck says what is wrong with files that need not be those in force.
func (c call) policyCheck(ask api.CheckPolicy) (any, error) {
	check := api.PolicyCheck{Faults: []string{}}
	rules, err := c.gateway.Read(ask.Files)
	var faults policy.Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			check.Faults = append(check.Faults, f.Error())
		}
		return check, nil
	}
	if err == nil {
		_, check.Tests = rules.Policy.Test()
	}
	return check, err
}

// policyTest runs the tests that stand in the access files.
func (c call) policyTest() (any, error) {
	failures, ran := c.gateway.policy.Load().Test()
	t := api.PolicyTest{Ran: ran, Failures: []string{}}
	for _, f := range failures {
		t.Failures = append(t.Failures, f.Error())
	}
	return t, nil
}
