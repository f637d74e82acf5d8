package policy

import (
	"strings"
	"testing"
)

func TestExplain(t *testing.T) {
	p := with(t, `
rules: [{name: r, who: [ann], targets: [db-1], idle: 20m}]
`, `@id("late") @hint("come tomorrow") forbid (principal, action == Action::"connect", resource) when { true } when { context.time.hour >= 20 };
@id("bob's") permit (principal == User::"bob", action in Action::"use", resource in Label::"env=prod");
@id("ann's") permit (principal == User::"ann", action in Action::"use", resource in Label::"env=test");
@id("others'") permit (principal == User::"bob", action in Action::"use", resource in Label::"env=test");
@id("watch") permit (principal == User::"ann", action == Action::"view_session", resource);
@id("sum") permit (principal == User::"ann", action == Action::"upload", resource) when { context.mfa && context.port + 9223372036854775807 > 0 };`)
	r := bySSH("ann", "db-1")
	if got, want := p.Explain(r).String(), `ann → db-1 by ssh at 2026-03-02T12:00:00Z: allowed by "r"
  idle 20m0s
  channels clipboard_in, clipboard_out, upload, download
  permit "r" (access.yaml:12:10) fits connect, clipboard_in, clipboard_out, upload, download; idle 20m0s
  forbid "late" (a.cedar:1:36) does not fit: condition 2
  permit "sum" (a.cedar:6:12) does not fit: condition 1
  permit "watch" (a.cedar:5:14) does not fit: action
  permit "bob's" (a.cedar:2:14) does not fit: principal
  permit "ann's" (a.cedar:3:14) does not fit: resource
`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	r.Time, r.MFA = noon.Add(9*60*60*1e9), noon
	if got := p.Explain(r).String(); !strings.HasPrefix(got, `ann → db-1 by ssh at 2026-03-02T21:00:00Z: denied
  db-1:22 denied by policy "late"
  hint: come tomorrow
  permit "sum" (a.cedar:6:12) cannot be evaluated: `) || !strings.Contains(got, `forbid "late" (a.cedar:1:36) fits connect`) {
		t.Errorf("got\n%s", got)
	}
	// A stranger is told that there is nothing; an administrator is told why.
	e := p.Explain(bySSH("eve", "db-1"))
	if e.Err == nil || !strings.Contains(e.String(), `permit "r" (access.yaml:12:10) does not fit: principal`) {
		t.Errorf("%s", e)
	}
	if e := p.Explain(bySSH("eve", "nothing")); e.Err == nil || len(e.Policies) > 0 {
		t.Errorf("%s", e)
	}
	many := strings.Repeat("permit (principal, action == Action::\"connect\", resource) when { context.port == 1 };\n", 30)
	if got := with(t, "", many).Explain(bySSH("ann", "db-1")).String(); !strings.HasSuffix(got, "… and 10 more that do not fit\n") {
		t.Errorf("%s", got)
	}
}
