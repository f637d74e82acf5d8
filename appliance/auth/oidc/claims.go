package oidc

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"sallyport/appliance/auth"
)

const (
	maxGroups = 200
	maxGroup  = 256
)

// claims are the members of an ID token, not decoded yet: each has to be of its own type.
type claims map[string]json.RawMessage

var errType = errors.New("it is not of the type that it should be")

func (c claims) has(name string) bool { return c[name] != nil && string(c[name]) != "null" }

// show returns a claim for the log, cut.
func (c claims) show(name string) string {
	if c[name] == nil {
		return "absent"
	}
	return clip(string(c[name][:min(len(c[name]), 120)]))
}

func (c claims) text(name string) (string, error) {
	var s *string
	if err := json.Unmarshal(orNull(c[name]), &s); err != nil || s == nil {
		return "", errType
	}
	return *s, nil
}

// list takes one string for a list of one, as aud may be written.
func (c claims) list(name string) ([]string, error) {
	if s, err := c.text(name); err == nil {
		return []string{s}, nil
	}
	var list []*string
	if err := json.Unmarshal(orNull(c[name]), &list); err != nil || list == nil || slices.Contains(list, nil) {
		return nil, errType
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = *s
	}
	return out, nil
}

// time takes a number of seconds, whole or not.
func (c claims) time(name string) (time.Time, error) {
	f, err := strconv.ParseFloat(string(c[name]), 64) // a JSON string begins with a quote, so it is none
	if err != nil || f < 0 || f > 1<<40 {
		return time.Time{}, errType
	}
	return time.Unix(int64(math.Floor(f)), 0), nil
}

// yes takes the word true too: some providers write it so.
func (c claims) yes(name string) bool {
	return string(c[name]) == "true" || string(c[name]) == `"true"`
}

func orNull(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("null")
	}
	return raw
}

// user returns the name of the person here.
func (p *Provider) user(c claims) (string, error) {
	from := p.config.UserClaim
	name, err := c.text(from)
	if err != nil {
		return "", p.refuse("%s, the user name, is %s; is its scope among %q?", from, c.show(from), p.config.Scopes)
	}
	if from == "email" && !c.yes("email_verified") {
		return "", p.refuse("email_verified is %s, so %.80q may be anybody's", c.show("email_verified"), name)
	}
	name = lower(name)
	if err := auth.CheckUser(name); err != nil {
		return "", p.refuse("%s is %.80q, which is no user name here: 1 to 64 of a-z, 0-9, dot, dash, _ and @", from, name)
	}
	return name, nil
}

// lower folds ASCII alone: in Unicode the Kelvin sign is a capital k too, and would make one name of two.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// groups returns the person's groups. Where the provider says that it left some out, nothing is known of any: a rule
// that denies a group would not see it.
func (p *Provider) groups(c claims) ([]string, error) {
	name := p.config.GroupsClaim
	if reason := c.overage(name); reason != "" {
		return nil, &outcome{ErrGroups, &Detail{Provider: p.config.Name, Reason: reason}}
	}
	if !c.has(name) {
		return nil, nil
	}
	groups, err := c.list(name)
	if err != nil {
		return nil, p.refuse("%s is %s, not a list of strings", name, c.show(name))
	}
	if len(groups) > maxGroups {
		return nil, &outcome{ErrGroups, &Detail{Provider: p.config.Name, Reason: fmt.Sprintf("%s has %d groups, more than %d", name, len(groups), maxGroups)}}
	}
	bad := func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	for _, g := range groups {
		if g == "" || len(g) > maxGroup || strings.ContainsFunc(g, bad) {
			return nil, p.refuse("%s has the group %.80q, which is not 1 to %d printable bytes", name, g, maxGroup)
		}
	}
	slices.Sort(groups)
	return slices.Compact(groups), nil
}

// overage finds how providers say that a person has more groups than they put into a token.
func (c claims) overage(name string) string {
	var elsewhere map[string]json.RawMessage
	if json.Unmarshal(orNull(c["_claim_names"]), &elsewhere) == nil && elsewhere[name] != nil {
		return fmt.Sprintf("the provider left out %s, there are too many (_claim_names)", name)
	}
	if c.yes("hasgroups") {
		return fmt.Sprintf("the provider left out %s, there are too many (hasgroups)", name)
	}
	return ""
}

// mfa reports whether the provider says that the person has shown a second factor.
func (p *Provider) mfa(c claims) bool {
	methods, err := c.list("amr")
	if err == nil && slices.ContainsFunc(methods, func(m string) bool { return slices.Contains(p.config.AMR, m) }) {
		return true
	}
	class, err := c.text("acr")
	return err == nil && slices.Contains(p.config.ACR, class)
}
