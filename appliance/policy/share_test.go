package policy

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

const sharing = `
groups: {ops: [ann], leads: [lea]}
targets:
  - {name: db-1, vnet: hub, address: 10.0.5.4, protocols: {ssh: 22, rdp: 3389}}
  - {name: db-2, vnet: hub, address: db-2.internal, protocols: ssh}
rules:
  - {name: ops, who: ["group:ops"], targets: [db-1], protocols: [ssh], share: true, idle: 30m, principals: [support, "{user}"]}
  - {name: desks, who: ["group:ops"], targets: [db-1], protocols: [rdp]}
  - {name: names, who: ["group:ops"], targets: [db-2]}
`

// alone is with, for an access.yaml of its own.
func alone(t testing.TB, yaml, policies string) *Policy {
	t.Helper()
	p, err := Parse([]File{{"access.yaml", []byte(yaml)}, {"a.cedar", []byte(policies)}}, fakes)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestShare: to let guests in is a right of its own, for what it is given for and nothing else.
func TestShare(t *testing.T) {
	p := alone(t, sharing, `
@id("by day") @idle("10m") permit (principal == User::"ann", action == Action::"share", resource == Target::"db-2")
when { context has mfa_age && context.mfa_age < 600 && context.address.isInRange(ip("10.0.5.0/24")) };
@id("not from there") forbid (principal, action == Action::"connect", resource) when { context.source == ip("192.0.2.66") };`)
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	ask := func(target, protocol string, maker Guest) Request {
		return Request{User: "ann", Target: target, Protocol: protocol, Time: now, Source: netip.MustParseAddr("198.51.100.1"), Guest: &maker}
	}
	home := netip.MustParseAddr("192.0.2.1")

	g := granted(t, p, ask("db-1", "ssh", Guest{Name: "guest:x-1", Source: home, Approval: "leads"}))
	if g.User != "guest:x-1" || !g.Timed || !slices.Equal(g.Approval, []string{"leads"}) || !slices.Equal(g.Principals, []string{"support", "guest:x-1"}) || g.Idle != 30*time.Minute {
		t.Errorf("%+v", g)
	}
	if no := refused(t, p, ask("db-1", "rdp", Guest{Name: "guest:x-1", Source: home})); no.Code != CodeShare || no.Sentence != "no rule or policy lets you share db-1:3389" {
		t.Errorf("another protocol: %+v", no)
	}
	// How the maker was counts for what they may share, and how the guest is for what the guest may do.
	if no := refused(t, p, ask("db-1", "ssh", Guest{Source: netip.MustParseAddr("192.0.2.66")})); no.Rule != "not from there" {
		t.Errorf("a maker from elsewhere: %+v", no)
	}
	r := ask("db-1", "ssh", Guest{Source: home})
	r.Source = netip.MustParseAddr("192.0.2.66")
	if no := refused(t, p, r); no.Rule != "not from there" {
		t.Errorf("a guest from elsewhere: %+v", no)
	}
	// At an address that is known late, the same is asked again.
	second := ask("db-2", "ssh", Guest{Source: home, MFA: true, MFAAge: time.Minute})
	g = granted(t, p, second)
	at, err := p.DecideAddress(g, netip.MustParseAddr("10.0.5.9"))
	if err != nil || at.Idle != 10*time.Minute || at.User != "ann" {
		t.Errorf("%+v, %v", at, err)
	}
	if _, err := p.DecideAddress(g, netip.MustParseAddr("10.0.6.9")); err == nil {
		t.Error("what may not be shared there is granted")
	}
	for name, maker := range map[string]Guest{"without a second factor": {Source: home}, "with an old one": {Source: home, MFA: true, MFAAge: time.Hour}} {
		if no := refused(t, p, ask("db-2", "ssh", maker)); no.Code != CodeShare {
			t.Errorf("%s: %+v", name, no)
		}
	}
	// Who may not share, or not connect, has nothing to give.
	lea := ask("db-1", "ssh", Guest{})
	lea.User = "lea"
	if no := refused(t, p, lea); no.Code != CodeTargetUnknown {
		t.Errorf("%+v", no)
	}
	broken := alone(t, sharing, `@id("broken") permit (principal, action == Action::"share", resource) when { context.port + 9223372036854775807 > 0 };`)
	if no := refused(t, broken, ask("db-2", "ssh", Guest{})); no.Code != CodeShare || no.Err == nil {
		t.Errorf("%+v", no)
	}
	forbidding := alone(t, sharing, `@id("no guests") @hint("ask lea") forbid (principal, action == Action::"share", resource);`)
	if no := refused(t, forbidding, ask("db-1", "ssh", Guest{})); no.Sentence != `sharing db-1:22 is denied by policy "no guests"` || no.Hint != "ask lea" {
		t.Errorf("%+v", no)
	}
	granted(t, forbidding, bySSH("ann", "db-1"))
}

// TestShareCase: the tests that stand beside the rules can ask for share.
func TestShareCase(t *testing.T) {
	p := alone(t, sharing+`
tests:
  - {user: ann, target: db-1, protocol: ssh, action: share, allow: true, by: ops}
  - {user: ann, target: db-1, protocol: rdp, action: share, allow: false}
  - {user: lea, target: db-1, action: share, allow: false}
`, "")
	if failures, ran := p.Test(); len(failures) > 0 || ran != 3 {
		t.Errorf("%v, %d", failures, ran)
	}
}
