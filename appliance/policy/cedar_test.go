package policy

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// small is an access.yaml for tests of *.cedar files: everything is permitted by them alone.
const small = `
zone: Europe/Berlin
address_mode: on
groups:
  ops: [ann, bob]
  leads: []
targets:
  - {name: db-1, vnet: hub, address: 10.0.5.4, protocols: {ssh: [22, 2222], tcp: 5432}, labels: {env: prod}}
  - {name: desk-1, vnet: hub, address: 10.0.6.10, protocols: rdp, labels: {env: prod}}
  - {name: web-1, vnet: lab, address: web-1.corp.example, protocols: ssh, labels: {env: test}}
`

// with reads small, or more than it, with policies in Cedar.
func with(t testing.TB, yaml, policies string) *Policy {
	t.Helper()
	p, err := Parse([]File{{"access.yaml", []byte(small + yaml)}, {"a.cedar", []byte(policies)}}, fakes)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const all = `permit (principal, action in Action::"use", resource);`

func bySSH(user, target string) Request {
	return Request{User: user, Target: target, Protocol: SSH, Opaque: true, Time: noon, Transport: "quic", Source: netip.MustParseAddr("192.0.2.7")}
}

// refused wants a refusal.
func refused(t *testing.T, p *Policy, r Request) Refusal {
	t.Helper()
	g, err := p.Decide(r)
	var no *Refusal
	if !errors.As(err, &no) {
		t.Fatalf("granted %+v", g)
	}
	return *no
}

func granted(t *testing.T, p *Policy, r Request) Grant {
	t.Helper()
	g, err := p.Decide(r)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestForbidWins(t *testing.T) {
	p := with(t, `rules: [{name: everything, who: ["*"], targets: ["*"]}]`, `
@id("frozen") @hint("thaws on monday")
forbid (principal, action, resource == Target::"db-1");`)
	no := refused(t, p, bySSH("ann", "db-1"))
	if want := (Refusal{CodeDenied, `db-1:22 denied by policy "frozen"`, "thaws on monday", "frozen", nil}); no != want {
		t.Errorf("got %+v", no)
	}
	if g := granted(t, p, bySSH("ann", "web-1")); g.Rule != "everything" {
		t.Errorf("%+v", g)
	}
	// What is forbidden is visible, and nothing of it is offered.
	for _, target := range p.Visible("ann") {
		if target.Name == "db-1" && len(target.Offers) > 0 {
			t.Errorf("%s offers %s", target.Name, joinOffers(target.Offers))
		}
	}
	if len(p.Visible("ann")) != 3 {
		t.Errorf("ann sees %v", p.Visible("ann"))
	}
}

func TestStrictestLimitsHold(t *testing.T) {
	p := with(t, `rules: [{name: r, who: [ann], targets: [db-1], idle: 20m, bandwidth: 1gbit, approval: ops}]`, `
@id("p") @idle("30m") @lifetime("8h") @grace("1m") @bandwidth("20mbit") @approval("leads")
permit (principal in Group::"ops", action in Action::"use", resource in Label::"env=prod");
@id("channel") @lifetime("2h")
permit (principal, action == Action::"upload", resource);
@id("other") @idle("1s")
permit (principal == User::"bob", action, resource is Target);`)
	g := granted(t, p, bySSH("ann", "db-1"))
	if g.Idle != 20*time.Minute || g.Lifetime != 2*time.Hour || g.Grace != time.Minute || g.Bandwidth != 20e6 || g.Record || g.Timed {
		t.Errorf("%+v", g)
	}
	if !slices.Equal(g.Policies, []string{"r", "p", "channel"}) || g.Rule != "r" || !slices.Equal(g.Approval, []string{"ops", "leads"}) {
		t.Errorf("%+v", g)
	}
	if !slices.Equal(g.Channels, []string{ClipboardIn, ClipboardOut, Upload, Download}) || !g.Expires.Equal(noon.Add(2*time.Hour)) {
		t.Errorf("%+v", g)
	}
}

func TestWhatCannotBeEvaluatedDenies(t *testing.T) {
	for _, effect := range []string{"permit", "forbid"} {
		p := with(t, "", all+`
@id("sum")
`+effect+` (principal, action == Action::"connect", resource) when { context.port + 9223372036854775807 > 0 };`)
		no := refused(t, p, bySSH("ann", "db-1"))
		var broken *EvaluationError
		if no.Code != CodeDenied || no.Sentence != `db-1:22 denied: policy "sum" could not be evaluated` || no.Rule != "sum" || !errors.As(&no, &broken) {
			t.Fatalf("%s: %+v", effect, no)
		}
		if broken.Policy != "sum" || broken.Place != "a.cedar:3:1" || !strings.Contains(broken.Error(), "overflow") {
			t.Errorf("%s: %v", effect, broken)
		}
	}
	// So does what looks at something that the caller did not say.
	p := with(t, "", all+`@id("where") forbid (principal, action, resource is Target) when { context.source.isLoopback() };`)
	r := bySSH("ann", "db-1")
	r.Source = netip.Addr{}
	if no := refused(t, p, r); no.Rule != "where" || no.Err == nil {
		t.Errorf("%+v", no)
	}
}

func TestOpaqueFlowsNeedAllChannels(t *testing.T) {
	p := with(t, "", all+`@id("no copies") forbid (principal, action == Action::"clipboard_out", resource);`)
	r := Request{User: "ann", Target: "desk-1", Opaque: true, Time: noon}
	if no := refused(t, p, r); no != (Refusal{CodePortal, `desk-1:3389 needs the portal: clipboard_out is denied by policy "no copies"`, "use the portal", "no copies", nil}) {
		t.Errorf("%+v", no)
	}
	r.Opaque = false
	if g := granted(t, p, r); !slices.Equal(g.Channels, []string{ClipboardIn, Upload, Download, Drive}) {
		t.Errorf("%v", g.Channels)
	}
	r = bySSH("ann", "db-1")
	if no := refused(t, p, r); no.Code != CodePortal || no.Sentence != `db-1:22 needs the portal: clipboard_out is denied by policy "no copies"` {
		t.Errorf("%+v", no)
	}
	r.Opaque = false
	if g := granted(t, p, r); !slices.Equal(g.Channels, []string{ClipboardIn, Upload, Download}) {
		t.Errorf("%v", g.Channels)
	}

	p = with(t, "", `permit (principal, action == Action::"connect", resource);`)
	if no := refused(t, p, bySSH("ann", "db-1")); no.Code != CodePortal || no.Sentence != "db-1:22 needs the portal: nothing allows clipboard_in" {
		t.Errorf("%+v", no)
	}
}

func TestRecording(t *testing.T) {
	const policies = `@id("rec") @record permit (principal, action in Action::"use", resource);
permit (principal == User::"bob", action == Action::"record_exempt", resource is Target);`
	p := with(t, "", policies)
	if no := refused(t, p, bySSH("ann", "db-1")); no.Code != CodeRecording || no.Rule != "rec" {
		t.Errorf("%+v", no)
	}
	if g := granted(t, p, bySSH("bob", "db-1")); g.Record {
		t.Errorf("%+v", g)
	}
	o := fakes
	o.Recording = true
	p, err := Parse([]File{{"access.yaml", []byte(small)}, {"a.cedar", []byte(policies)}}, o)
	if err != nil {
		t.Fatal(err)
	}
	r := bySSH("ann", "db-1")
	if no := refused(t, p, r); no.Code != CodePortal || no.Sentence != `db-1:22 needs the portal: policy "rec" demands a recording` {
		t.Errorf("%+v", no)
	}
	r.Opaque = false
	if g := granted(t, p, r); !g.Record {
		t.Errorf("%+v", g)
	}
}

// TestVisibility: a target does not appear and vanish with the hour or the second factor, and no condition on who and what
// is ignored with them.
func TestVisibility(t *testing.T) {
	p := with(t, "", `
@id("hours") @hint("from 8 to 9")
permit (principal in Group::"ops", action in Action::"use", resource is Target)
when { context.time.hour == 8 && resource.name like "db-*" }
unless { !context.mfa || principal == User::"bob" };`)
	for user, want := range map[string]string{"ann": "db-1", "bob": "", "carl": ""} {
		got := ""
		for _, target := range p.Visible(user) {
			got += target.Name
		}
		if got != want {
			t.Errorf("%s sees %q, want %q", user, got, want)
		}
	}
	if no := refused(t, p, bySSH("ann", "db-1")); no.Code != CodeDenied || no.Hint != "from 8 to 9" || no.Rule != "hours" {
		t.Errorf("%+v", no)
	}
	if no := refused(t, p, bySSH("bob", "db-1")); no.Code != CodeTargetUnknown {
		t.Errorf("%+v", no)
	}
	r := bySSH("ann", "db-1")
	r.Time = time.Date(2026, 3, 2, 7, 30, 0, 0, time.UTC) // 8:30 in Berlin
	r.MFA = r.Time
	if g := granted(t, p, r); !g.Timed {
		t.Errorf("%+v", g)
	}
	// Groups of the identity provider count as far as access.yaml knows them.
	p = with(t, "", `permit (principal in Group::"leads", action in Action::"use", resource);`)
	if got := len(p.Visible("eve", "leads", "unheard")); got != 3 {
		t.Errorf("eve of leads sees %d targets", got)
	}
	if got := len(p.Visible("eve", "ops")) + len(p.Visible("eve")); got != 0 {
		t.Errorf("eve sees %d targets", got)
	}
}

// TestHintsSayWhatIsLookedAt: who has no hint of the policy's own learns what the answer depends on.
func TestHintsSayWhatIsLookedAt(t *testing.T) {
	p := with(t, "", `@id("p") permit (principal, action in Action::"use", resource)
when { context.mfa && context.time.weekday == "sun" && context.source.isInRange(ip("10.0.0.0/8")) && context.transport == "quic" };`)
	if no := refused(t, p, bySSH("ann", "db-1")); no.Hint != "the policy looks at the time, the second factor, where you are, the transport; ask an administrator" {
		t.Errorf("%+v", no)
	}
}

// TestAddressIsDecidedTwice: what depends on the address is let through before it is known, and decided for good then.
func TestAddressIsDecidedTwice(t *testing.T) {
	p := with(t, "", `
@id("inside") @idle("1m")
permit (principal, action in Action::"use", resource) when { context.address.isInRange(ip("10.0.0.0/16")) };
@id("anywhere")
permit (principal == User::"ann", action in Action::"use", resource);
@id("not there") forbid (principal, action == Action::"download", resource) when { context.address == ip("10.0.0.9") };`)
	ann, bob := granted(t, p, bySSH("ann", "web-1")), granted(t, p, bySSH("bob", "web-1"))
	for _, tt := range []struct {
		g     Grant
		addr  string
		rules string
		code  string
	}{
		{ann, "10.0.0.1", "inside anywhere", ""},
		{ann, "10.1.0.1", "anywhere", ""},
		{bob, "10.0.0.1", "inside", ""},
		{bob, "::ffff:10.0.0.1", "inside", ""},
		{bob, "10.1.0.1", "", CodeDenied},
		{bob, "10.0.0.9", "", CodePortal},
	} {
		g, err := p.DecideAddress(tt.g, netip.MustParseAddr(tt.addr))
		var no *Refusal
		switch {
		case tt.code == "" && (err != nil || strings.Join(g.Policies, " ") != tt.rules || (g.Idle > 0) != strings.Contains(tt.rules, "inside")):
			t.Errorf("%s at %s: %+v, %v", tt.g.User, tt.addr, g, err)
		case tt.code != "" && (!errors.As(err, &no) || no.Code != tt.code):
			t.Errorf("%s at %s: %+v, %v", tt.g.User, tt.addr, g, err)
		}
	}
	if _, err := p.DecideAddress(bob, netip.MustParseAddr("10.1.0.1")); err.Error() != `web-1:22 at 10.1.0.1 denied by policy "inside"` {
		t.Error(err)
	}
	r := bySSH("bob", "web-1")
	r.Address = netip.MustParseAddr("10.1.0.1")
	if no := refused(t, p, r); no.Code != CodeDenied {
		t.Errorf("%+v", no)
	}
}

func TestAddressesAnnotation(t *testing.T) {
	p := with(t, "", `@id("p") @addresses("10.0.0.0/24, 10.1.0.0/24") permit (principal, action in Action::"use", resource);`)
	g := granted(t, p, bySSH("ann", "web-1"))
	if _, err := p.DecideAddress(g, netip.MustParseAddr("10.1.0.5")); err != nil {
		t.Error(err)
	}
	_, err := p.DecideAddress(g, netip.MustParseAddr("10.2.0.5"))
	if no, ok := err.(*Refusal); !ok || no.Sentence != `web-1:22 at 10.2.0.5 denied by policy "p"` || no.Hint != "the policy allows 10.0.0.0/24, 10.1.0.0/24" {
		t.Errorf("%+v", err)
	}
}

func TestAddressMode(t *testing.T) {
	p := with(t, "", `
@id("lab") permit (principal, action in Action::"use", resource in VNet::"lab")
when { resource is Address && resource.ip.isInRange(ip("10.7.0.0/16")) && (context.port == 22 || [8080, 9090].contains(context.port)) };
@id("one") permit (principal, action in Action::"use", resource == Address::"10.9.0.1");`)
	r := bySSH("ann", "10.7.0.1")
	if g := granted(t, p, r); g.VNet != "lab" || g.Port != 22 || g.Rule != "lab" {
		t.Errorf("%+v", g)
	}
	r.Protocol, r.Port = TCP, 9090
	granted(t, p, r)
	r.Port = 9091
	if no := refused(t, p, r); no.Code != CodePortDenied || no.Sentence != "port 9091 is not part of this grant (22, 8080, 9090)" {
		t.Errorf("%+v", no)
	}
	if no := refused(t, p, bySSH("ann", "10.8.0.1")); no.Code != CodeTargetUnknown {
		t.Errorf("%+v", no)
	}
	if no := refused(t, p, bySSH("ann", "10.9.0.1")); no.Code != CodeName || no.Hint != "say in which: hub, lab" {
		t.Errorf("%+v", no)
	}
	r = bySSH("ann", "10.9.0.1")
	r.VNet = "hub"
	granted(t, p, r)
}

func TestZones(t *testing.T) {
	p := with(t, "", `
@id("berlin") permit (principal == User::"ann", action in Action::"use", resource) when { context.time == {hour: 13, minute: 0, weekday: "mon", date: "2026-03-02"} };
@id("tokyo") @zone("Asia/Tokyo") permit (principal == User::"bob", action in Action::"use", resource) when { context.time.hour == 21 && context.now == datetime("2026-03-02T12:00:00Z") };`)
	granted(t, p, bySSH("ann", "db-1"))
	granted(t, p, bySSH("bob", "db-1"))
	if p.Zone().String() != "Europe/Berlin" || parse(t, "").Zone() != time.UTC {
		t.Errorf("zones %v", p.Zone())
	}
}

// TestActionsInConditions: one evaluation answers for all actions, except where a condition looks at the action.
func TestActionsInConditions(t *testing.T) {
	p := with(t, "", all+`@id("f") forbid (principal, action, resource is Target) when { action == Action::"drive" || action in [Action::"upload"] };`)
	r := Request{User: "ann", Target: "desk-1", Time: noon}
	if g := granted(t, p, r); !slices.Equal(g.Channels, []string{ClipboardIn, ClipboardOut, Download}) {
		t.Errorf("%v", g.Channels)
	}
	if e := p.Explain(r).String(); !strings.Contains(e, `forbid "f" (a.cedar:1:64) fits upload, drive`) {
		t.Error(e)
	}
}

func TestAllows(t *testing.T) {
	p := with(t, "admins: [root]\nbench: [\"group:ops\"]\n", `
permit (principal in Group::"leads", action == Action::"admin", resource) when { context.mfa };
permit (principal, action == Action::"view_session", resource in Label::"env=test");
@id("no root at night") forbid (principal == User::"root", action == Action::"admin", resource) when { context.time.hour < 6 };`)
	day := Request{User: "root", Time: noon}
	night := Request{User: "root", Time: noon.Add(-10 * time.Hour)}
	lead := Request{User: "eve", Groups: []string{"leads"}, Time: noon, MFA: noon}
	web, db := Request{User: "carl", Target: "web-1", Time: noon}, Request{User: "carl", Target: "db-1", Time: noon}
	for _, tt := range []struct {
		what, action string
		r            Request
		may          bool
	}{
		{"admins", Admin, day, true}, {"forbid", Admin, night, false}, {"second factor", Admin, lead, true},
		{"no second factor", Admin, Request{User: "eve", Groups: []string{"leads"}, Time: noon}, false},
		{"admins watch", ViewSession, Request{User: "root", Target: "db-1"}, true}, {"admins kill", KillSession, Request{User: "root", Target: "10.0.0.1", VNet: "hub"}, true},
		{"by label", ViewSession, web, true}, {"not by label", ViewSession, db, false}, {"not that", KillSession, web, false},
		{"bench", Bench, Request{User: "bob"}, true}, {"no bench", Bench, Request{User: "root"}, false},
	} {
		by, err := p.Allows(tt.action, tt.r)
		if (err == nil) != tt.may || len(by) > 0 != tt.may {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
	if g, err := p.Decide(Request{User: "root", Target: "db-1", Time: noon}); err == nil {
		t.Errorf("to administer is no right to a target: %+v", g)
	}
}

// TestStatements: administrators see each rule and policy that is asked, and where it stands.
func TestStatements(t *testing.T) {
	p := with(t, `
rules: [{name: r, who: [ann], targets: [db-1], idle: 20m, approval: ops}]
`, `@id("late") forbid (principal, action == Action::"connect", resource) when { context.time.hour >= 20 };`)
	list := p.Statements()
	if len(list) != 2 {
		t.Fatalf("%+v", list)
	}
	if r := list[0]; r.ID != "r" || r.Kind != "rule" || r.Effect != "permit" || !strings.HasPrefix(r.Place, "access.yaml:") || strings.Join(r.Limits, "; ") != "idle 20m0s; approval by ops" ||
		!strings.Contains(r.Text, `resource == Target::"db-1"`) {
		t.Errorf("the rule is %+v", r)
	}
	if f := list[1]; f.ID != "late" || f.Kind != "policy" || f.Effect != "forbid" || f.Place != "a.cedar:1:13" || f.Limits != nil || !strings.Contains(f.Text, "context.time.hour >= 20") {
		t.Errorf("the policy is %+v", f)
	}
}

// TestFiles: a target offers files to who may send or fetch some, be it not now.
func TestFiles(t *testing.T) {
	const rules = "\nrules: [{name: r, who: [ann], targets: [db-1], protocols: [ssh]}]\n"
	for policies, want := range map[string]bool{
		"": true,
		`forbid (principal, action in [Action::"upload", Action::"download"], resource);`:                        false,
		`forbid (principal, action == Action::"upload", resource);`:                                              true,
		`forbid (principal, action in [Action::"upload", Action::"download"], resource) unless { context.mfa };`: true,
		`forbid (principal == User::"bob", action in [Action::"upload", Action::"download"], resource);`:         true,
		`forbid (principal, action in Action::"use", resource) when { context.protocol == "ssh" };`:              false,
	} {
		seen := with(t, rules, policies).Visible("ann")
		if len(seen) != 1 || seen[0].Files != want {
			t.Errorf("%q: %+v", policies, seen)
		}
	}
}
