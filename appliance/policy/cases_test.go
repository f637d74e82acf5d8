package policy

import (
	"slices"
	"strings"
	"testing"
)

func TestCases(t *testing.T) {
	p := with(t, `
rules:
  - {name: r, who: [ann], targets: ["*"]}
tests:
  - {user: ann, target: db-1, at: 2026-11-23T10:00, allow: true, by: r}
  - {name: no stranger, user: eve, target: db-1, at: 2026-11-23T10:00, allow: false, code: E_TARGET_UNKNOWN}
  - {name: wrong, user: eve, target: db-1, at: 2026-11-23T10:00, allow: true}
  - {name: other rule, user: ann, target: db-1, at: 2026-11-23T10:00, allow: true, by: s}
  - {name: other code, user: ann, target: db-1, at: 2026-11-23T20:00, allow: false, by: late, code: E_PORTAL}
  - {name: right code, user: ann, target: db-1, at: 2026-11-23T20:00, allow: false, by: late, code: E_DENIED}
  - {name: no time, user: ann, target: db-1, allow: true}
  - {name: address, user: ann, target: web-1, address: 10.6.6.6, at: 2026-11-23T10:00, allow: false, by: there}
  - {name: admin, user: ann, action: admin, allow: false}
  - {name: channel, user: ann, target: desk-1, action: drive, at: 2026-11-23T10:00, allow: true}
`, `@id("late") forbid (principal, action == Action::"connect", resource) when { context.time.hour >= 20 };
@id("there") forbid (principal, action == Action::"connect", resource) when { context.address == ip("10.6.6.6") };`)
	failures, ran := p.Test()
	var got []string
	for _, f := range failures {
		got = append(got, f.Error())
	}
	want := []string{
		`access.yaml:17: test "wrong": got denied: no target "db-1" that you may use, want allowed`,
		`access.yaml:18: test "other rule": got allowed by r, want allowed by s`,
		`access.yaml:19: test "other code": got denied by late with E_DENIED, want denied by late with E_PORTAL`,
		`access.yaml:21: test "no time": got an answer that depends on the time; give at, want allowed`,
	}
	if ran != 10 || !slices.Equal(got, want) {
		t.Errorf("of %d:\n%s\nwant\n%s", ran, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestCaseFaults(t *testing.T) {
	for data, want := range map[string]string{
		"{}": `access.yaml:11:9: test 1 has no user
access.yaml:11:9: test 1 has no target
access.yaml:11:9: test 1 does not say what must come out; give allow: true or allow: false`,
		"{user: ann, target: x, allow: true, code: E_DENIED}":      `access.yaml:11:51: what is allowed has no code`,
		"{user: ann, target: x, allow: true, at: today}":           `access.yaml:11:49: at is "today", which is not a time; such as 2026-11-23T10:00`,
		"{user: ann, target: x, allow: true, action: clipbord_in}": `access.yaml:11:53: there is no action "clipbord_in"; did you mean "clipboard_in"?`,
		"{user: ann, target: x, allow: true, groups: [lead]}":      `access.yaml:11:54: there is no group "lead"; did you mean "leads"?`,
		"{user: ann, target: x, allow: true, protocol: vnc}":       `access.yaml:11:55: protocol "vnc" is not known; known are ssh, rdp and tcp`,
		"{user: ann, target: x, allow: true, transport: tcp}":      `access.yaml:11:56: transport "tcp" is not known; known are quic, https and websocket`,
		"{user: ann, target: x, allow: true, mfa_age: 5}":          `access.yaml:11:54: tests[0].mfa_age is 5 without a unit; write a number and its unit, such as 15m, 8h or 1h30m`,
	} {
		_, err := parseOne(small + "tests: [" + data + "]\n")
		if err == nil || err.Error() != want {
			t.Errorf("%s: got\n%v\nwant\n%s", data, err, want)
		}
	}
}
