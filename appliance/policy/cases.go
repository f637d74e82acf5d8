package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport/appliance/policy/spell"
	"sallyport/appliance/policy/yamlfile"
)

// A testCase is one of the tests that stand beside the rules: a request, and the answer that it must have.
type testCase struct {
	name    string
	file    string
	at      yamlfile.Position
	action  string
	request Request
	timed   bool // it says at what time
	allow   bool
	by      string // the id of one of the statements that allow it, or of the one that denies
	code    string // of the refusal
}

// A Failure is a test whose answer is another one.
type Failure struct {
	File string
	Line int
	Name string
	Got  string
	Want string
}

func (f Failure) Error() string {
	return fmt.Sprintf("%s:%d: test %q: got %s, want %s", f.File, f.Line, f.Name, f.Got, f.Want)
}

// Test runs the tests of access.yaml. It returns those that fail, and how many there are.
func (p *Policy) Test() (failures []Failure, ran int) {
	for _, t := range p.tests {
		if got, want := p.outcome(t), t.want(); got != want {
			failures = append(failures, Failure{t.file, t.at.Line, t.name, got, want})
		}
	}
	return failures, len(p.tests)
}

// outcome is what the policy answers to a test, said as far as the test asks for it.
func (p *Policy) outcome(t testCase) string {
	if q, _ := p.explained(t.request); q != nil && !t.timed && q.looksAt(factNow|factTime) {
		return "an answer that depends on the time; give at"
	}
	by, err := p.run(t)
	if err == nil {
		if t.by != "" && t.allow && slices.Contains(by, t.by) {
			by = []string{t.by}
		}
		return outcome(true, strings.Join(by, ", "), "", t)
	}
	var no *Refusal
	if !errors.As(err, &no) {
		return err.Error()
	}
	said := outcome(false, no.Rule, no.Code, t)
	if t.allow {
		said += ": " + no.Sentence
	}
	return said
}

func (t testCase) want() string { return outcome(t.allow, t.by, t.code, t) }

func outcome(allow bool, by, code string, asked testCase) string {
	words := "denied"
	if allow {
		words = "allowed"
	}
	if asked.by != "" {
		words += " by " + by
	}
	if asked.code != "" && code != "" {
		words += " with " + code
	}
	return words
}

// run returns the ids of the statements that allow what a test asks for.
func (p *Policy) run(t testCase) (by []string, err error) {
	switch t.action {
	case Admin, ViewSession, KillSession:
		return p.Allows(t.action, t.request)
	}
	g, err := p.Decide(t.request)
	if err == nil && t.request.Address.IsValid() {
		g, err = p.DecideAddress(g, t.request.Address)
	}
	if err != nil {
		return nil, err
	}
	if t.action != Connect && !slices.Contains(g.Channels, t.action) {
		return nil, &Refusal{Code: CodeDenied, Sentence: t.action + " is not allowed"}
	}
	return g.Policies, nil
}

// testable lists the actions that a test can ask for.
var testable = []string{Connect, ClipboardIn, ClipboardOut, Upload, Download, Drive, ViewSession, KillSession, Admin}

// test checks one test of the file.
func (c *checker) test(file string, i int, t testForm) testCase {
	at := func(key string) yamlfile.Position { return c.At("tests", i, key) }
	made := testCase{file: file, at: c.At("tests", i), action: cmp.Or(t.Action, Connect), allow: t.Allow, by: t.By, code: t.Code}
	made.name = cmp.Or(t.Name, fmt.Sprintf("%s, %s", t.User, t.Target))
	if !c.Has("tests", i, "user") {
		c.Fault(c.At("tests", i), "", "test %d has no user", i+1)
	} else {
		c.checkUser(t.User, "tests", i, "user")
	}
	for j, group := range t.Groups {
		c.checkGroup(c.File, group, c.At("tests", i, "groups", j))
	}
	if !slices.Contains(testable, made.action) {
		c.Fault(at("action"), spell.DidYouMean(t.Action, testable, "known are "+strings.Join(testable, ", ")), "there is no action %q", t.Action)
	}
	if !c.Has("tests", i, "target") && made.action != Admin {
		c.Fault(c.At("tests", i), "", "test %d has no target", i+1)
	}
	if t.Protocol != "" && !slices.Contains(protocols, t.Protocol) {
		c.Fault(at("protocol"), "known are ssh, rdp and tcp", "protocol %q is not known", t.Protocol)
	}
	if t.Transport != "" && !slices.Contains(transports, t.Transport) {
		c.Fault(at("transport"), "known are quic, https and websocket", "transport %q is not known", t.Transport)
	}
	switch {
	case !c.Has("tests", i, "allow"):
		c.Fault(c.At("tests", i), "give allow: true or allow: false", "test %d does not say what must come out", i+1)
	case t.Allow && t.Code != "":
		c.Fault(at("code"), "", "what is allowed has no code")
	}
	made.request = Request{
		User: t.User, Groups: t.Groups, Target: t.Target, VNet: t.VNet, Protocol: t.Protocol, Port: uint16(t.Port), Address: t.Address.Unmap(),
		Opaque: !t.Portal && made.action == Connect, Source: t.Source, Transport: cmp.Or(t.Transport, usualTransport(t.Portal)), Time: time.Unix(0, 0).UTC(),
	}
	if c.Has("tests", i, "at") {
		made.timed = true
		made.request.Time = c.moment(t.At, at("at"))
	}
	if t.MFAAge > 0 {
		made.request.MFA = made.request.Time.Add(-t.MFAAge)
	}
	return made
}

// usualTransport is what a test is about that names none.
func usualTransport(portal bool) string {
	if portal {
		return "websocket"
	}
	return "quic"
}

// moment reads a time in the file's zone.
func (c *checker) moment(s string, at yamlfile.Position) time.Time {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, c.zone); err == nil {
			return t
		}
	}
	c.Fault(at, "such as 2026-11-23T10:00", "at is %q, which is not a time", s)
	return time.Time{}
}
