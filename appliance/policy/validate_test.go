package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestCedarFaults(t *testing.T) {
	const scope = `permit (principal, action in Action::"use", resource)`
	tests := []struct{ what, data, want string }{
		{"entity type", `permit (principal in Gruop::"ops", action, resource);`, `a.cedar:1:22: there is no entity type "Gruop"; did you mean "Group"?`},
		{"entity type in a condition", scope + "\nwhen { principal in\n  Grup::\"ops\" };", `a.cedar:3:3: there is no entity type "Grup"; did you mean "Group"?`},
		{"action", `permit (principal, action == Action::"conect", resource);`, `a.cedar:1:38: there is no action "conect"; did you mean "connect"?`},
		{"attribute of context", scope + ` when { context.protokol == "ssh" };`, `a.cedar:1:70: context has no attribute "protokol" here; did you mean "protocol"?`},
		{"attribute of time", scope + ` when { context.time.weekdy == "mon" };`, `a.cedar:1:75: context has no attribute "weekdy" here; did you mean "weekday"?`},
		{"attribute of a target", `permit (principal, action in Action::"use", resource is Target) when { resource.nam like "db-*" };`,
			`a.cedar:1:81: Target has no attribute "nam" here; did you mean "name"?`},
		{"attribute that is elsewhere", `forbid (principal, action, resource) when { context.protocol == "rdp" };`,
			`a.cedar:1:53: context has no attribute "protocol" here; say what it is about, such as action in Action::"use" or resource is Target`},
		{"may be missing", scope + ` when { context.mfa_age < 60 };`, `a.cedar:1:70: context.mfa_age may be missing; write context has mfa_age && before it`},
		{"wrong type", scope + "\nwhen { context.port == 22 }\nwhen { context.port < \"22\" };", `a.cedar:3:1: there is String where datetime, or duration, or Long must be`},
		{"no such pair", `permit (principal, action == Action::"admin", resource is Target);`,
			`a.cedar:1:1: no action fits both the principal and the resource; connect and what goes with it is done by User to Target and Address, admin and bench to Appliance`},
		{"group", `permit (principal in Group::"opps", action in Action::"use", resource);`, `a.cedar:1:29: there is no group "opps"; did you mean "ops"?`},
		{"target", `forbid (principal, action, resource == Target::"db1");`, `a.cedar:1:48: there is no target "db1"; did you mean "db-1"?`},
		{"types", scope + ` when { [Target::"db-1"].contains(resource) };`, `a.cedar:1:55: the types Address and Target are not compatible; say what it is about, such as resource is Target`},
		{"target in a condition", `permit (principal, action in Action::"use", resource is Target) when { [Target::"db-1", Target::"db-7"].contains(resource) };`, `a.cedar:1:97: there is no target "db-7"; did you mean "db-1"?`},
		{"vnet", `forbid (principal, action, resource in VNet::"hubb");`, `a.cedar:1:46: there is no vnet "hubb"; did you mean "hub"?`},
		{"user", `forbid (principal == User::"Ann", action, resource);`, `a.cedar:1:28: user name "Ann" must be 1 to 64 of a-z, 0-9, dot, dash, _ and @`},
		{"label", `forbid (principal, action, resource in Label::"prod");`, `a.cedar:1:47: "prod" is not a label; such as Label::"env=prod"`},
		{"address", `forbid (principal, action, resource == Address::"010.0.0.1");`, `a.cedar:1:49: "010.0.0.1" is not an address in its plain spelling; such as Address::"10.0.7.12"`},
		{"address, odd", `forbid (principal, action, resource == Address::"::ffff:10.0.0.1");`, `a.cedar:1:49: "::ffff:10.0.0.1" is not an address in its plain spelling; write 10.0.0.1`},
		{"appliance", `permit (principal, action == Action::"admin", resource == Appliance::"that");`, `a.cedar:1:70: there is no appliance "that"; write Appliance::"this"`},
		{"id twice", "@id(\"a\") " + scope + ";\n@id(\"a\") " + scope + ";", `a.cedar:2:10: id "a" is there twice; the first is at a.cedar:1:10`},
		{"id", "@id(\"a\\\"b\") " + scope + ";", `a.cedar:1:1: id "a\"b" must be 1 to 64 printable characters without a quote`},
		{"annotation", "@idel(\"5m\") " + scope + ";", `a.cedar:1:1: there is no annotation @idel; did you mean "idle"?`},
		{"idle", "@idle(\"5\") " + scope + ";", `a.cedar:1:1: @idle is "5", which is not a length of time; write a number and its unit, such as 15m, 8h or 1h30m`},
		{"bandwidth", "@bandwidth(\"20MB\") " + scope + ";", `a.cedar:1:1: @bandwidth is "20MB", which is not a rate; write a number and its unit, such as 500kbit, 20mbit or 1gbit`},
		{"record", "@record(\"no\") " + scope + ";", `a.cedar:1:1: @record has no value; write @record`},
		{"approval", "@approval(\"lead\") " + scope + ";", `a.cedar:1:1: there is no group "lead"; did you mean "leads"?`},
		{"addresses", "@addresses(\"10.0.0.0/24, 10.0.0.1/24\") " + scope + ";", `a.cedar:1:1: 10.0.0.1/24 has bits beyond its prefix length; write 10.0.0.0/24`},
		{"zone", "@zone(\"Europe/Berln\") " + scope + ";", `a.cedar:1:1: @zone is "Europe/Berln", which is not a time zone; such as Europe/Berlin or UTC`},
		{"the machine's zone", "@zone(\"Local\") " + scope + ";", `a.cedar:1:1: @zone is "Local", which is not a time zone; such as Europe/Berlin or UTC`},
		{"limit on a forbid", "@idle(\"5m\") forbid (principal, action, resource);", `a.cedar:1:1: @idle on a forbid limits nothing; limits stand at what permits`},
		{"limit on no flow", "@idle(\"5m\") permit (principal, action == Action::\"admin\", resource);", `a.cedar:1:1: @idle limits flows, and this policy is about none`},
		{"no semicolon", scope + "\n" + scope + ";", `a.cedar:2:1: "permit" stands where ";" belongs`},
		{"no end", scope + ";\n" + scope, `a.cedar:2:1: the policy that begins here does not end; add the ; after it`},
		{"text without end", scope + " when { resource.name == \"db };", `a.cedar:1:79: the text or comment that begins here does not end`},
		{"effect", "allow (principal, action, resource);", `a.cedar:1:1: "allow" stands where a policy begins; write permit or forbid`},
		{"effect, nearly", "\n  permitt (principal, action, resource);", `a.cedar:2:3: "permitt" stands where a policy begins; did you mean "permit"?`},
		{"single =", "permit (principal = User::\"ann\", action, resource);", `a.cedar:1:19: a single = compares nothing; write ==`},
		{"all of them", "permit;\n" + scope + ";\nforbid (principal in Groupp::\"a\", action, resource in VNet::\"x\");",
			"a.cedar:1:7: \";\" stands where \"(\" belongs\na.cedar:3:22: there is no entity type \"Groupp\"; did you mean \"Group\"?\na.cedar:3:61: there is no vnet \"x\"; the daemon has hub, lab"},
		{"deep", scope + " when { " + strings.Repeat("(", 40) + "true" + strings.Repeat(")", 40) + " };", `a.cedar:1:93: brackets stand more than 32 deep in each other`},
		{"long", scope + " when { true" + strings.Repeat(" && true", 3000) + " };", `a.cedar:1:1: this policy has 6017 words in 24068 bytes; at most 4096 in 32768 are read; make several of it`},
		{"escape", scope + "; // \x1b", `a.cedar:1:59: a control character (U+001B) has no place in this file`},
		{"bidi", "// \u202e\n" + scope + ";", `a.cedar:1:4: U+202E changes the direction of text, so that the line reads other than it is`},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			_, err := Parse([]File{{"access.yaml", []byte(small)}, {"a.cedar", []byte(tt.data)}}, fakes)
			if err == nil {
				t.Fatal("no fault")
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestFilesTogether(t *testing.T) {
	one, other := File{"d/access.yaml", []byte(small)}, File{"d/other.yaml", nil}
	policy := File{"d/x.cedar", []byte(all)}
	for what, tt := range map[string]struct {
		files []File
		want  string
	}{
		"none":        {nil, `access.yaml:1:1: there is no such file beside the policies; it says which targets there are`},
		"only cedar":  {[]File{policy}, `access.yaml:1:1: there is no such file beside the policies; it says which targets there are`},
		"two":         {[]File{one, policy, other}, `d/other.yaml:1:1: targets, groups and rules stand in one file, and d/access.yaml is there too`},
		"id of rule":  {[]File{{"a.yaml", []byte(small + "rules: [{name: x.cedar#1, who: [ann], targets: [db-1]}]")}, policy}, `d/x.cedar:1:1: id "x.cedar#1" is there twice; the first is at a.yaml:11:10`},
		"both faulty": {[]File{{"a.yaml", []byte("admin: []\n")}, {"x.cedar", []byte("permit;")}}, "a.yaml:1:1: unknown key \"admin\"; did you mean \"admins\"?\nx.cedar:1:7: \";\" stands where \"(\" belongs"},
		"unreadable":  {[]File{{"a.yaml", []byte("a: [\n")}, {"x.cedar", []byte(`forbid (principal in Group::"ops", action, resource);`)}}, `a.yaml:1:4: the list that begins here does not end; add the ]`},
	} {
		if _, err := Parse(tt.files, fakes); err == nil || err.Error() != tt.want {
			t.Errorf("%s: %v\nwant %s", what, err, tt.want)
		}
	}
	p, err := Parse([]File{policy, one, {"d/y.cedar", nil}}, fakes)
	if err != nil || len(p.statements) != 1 || p.statements[0].id != "x.cedar#1" {
		t.Errorf("%+v, %v", p, err)
	}
	var many strings.Builder
	for range maxPolicies + 1 {
		many.WriteString("permit(principal,action==Action::\"admin\",resource);\n")
	}
	var faults Faults
	if _, err := Parse([]File{one, {"m.cedar", []byte(many.String())}}, fakes); !errors.As(err, &faults) || len(faults) != 1 || faults[0].Line != maxPolicies+1 {
		t.Errorf("%d policies: %v", maxPolicies+1, err)
	}
	if _, err := Parse([]File{one, {"m.cedar", []byte(strings.Repeat(" ", 1<<20+1))}}, fakes); err == nil {
		t.Error("a file of more than a mebibyte is read")
	}
}

// TestRulesFitTheSchema: what rules are compiled to would stand the check that policies in files must stand.
func TestRulesFitTheSchema(t *testing.T) {
	p := parse(t, sample+`  - {name: more, who: [ann, bob, "group:ops"], targets: [db-09, "web-*"], labels: {env: prod, tier: web}, vnets: [hub, lab], ports: [22, 23]}
  - {name: groups, who: ["group:ops"], targets: ["*"]}
  - {name: everything by address, who: [ann], addresses: [0.0.0.0/0]}
bench: ["*"]
`)
	for _, s := range p.statements {
		if err := validator.Policy(s.id, s.parsed); err != nil {
			t.Errorf("%s: %v", s.id, err)
		}
	}
}

func FuzzCedarFile(f *testing.F) {
	f.Add(all, "ann", "db-1")
	f.Add(`@id("x") @idle("5m") @zone("Asia/Tokyo") permit (principal in Group::"ops", action, resource is Target) when { context.time.hour < 5 && resource.name like "d*" } unless { if context has mfa_age then context.mfa_age > 5 else true };`, "ann", "db-1")
	f.Add(`forbid (principal, action in [Action::"connect"], resource) when { [1, 2].contains(context.port) || {a: 1}.a == -1 };/* */`, "bob", "10.0.0.1")
	f.Add(`permit (principal, action, resource) when { context.address.isInRange(ip("10.0.0.0/8")) };`, "bob", "web-1")
	f.Add(strings.Repeat("!", 5000), "", "")
	f.Add("permit (principal, action, resource) when { "+strings.Repeat("if ", 1000), "", "")
	f.Fuzz(func(t *testing.T, data, user, target string) {
		watchdog := time.AfterFunc(20*time.Second, func() { panic("it takes more than twenty seconds") })
		defer watchdog.Stop()
		p, err := Parse([]File{{"access.yaml", []byte(small)}, {"a.cedar", []byte(data)}}, fakes)
		if err != nil {
			var faults Faults
			if !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatal(err)
			}
			for _, fault := range faults {
				if fault.Line < 1 || fault.Column < 1 || fault.Message == "" || strings.ContainsAny(fault.Error(), "\n\x1b") {
					t.Fatalf("%+v", fault)
				}
			}
			return
		}
		r := Request{User: user, Target: target, Opaque: true, Time: noon}
		g, err := p.Decide(r)
		if err == nil && (g.Rule == "" || g.Port == 0 || g.VNet == "" || g.Host == "" || len(g.Policies) == 0) {
			t.Fatalf("an incomplete grant: %+v", g)
		}
		if no, ok := err.(*Refusal); err != nil && (!ok || no.Code == "" || strings.ContainsAny(no.Sentence+no.Hint, "\n\x1b")) {
			t.Fatalf("%#v", err)
		}
		if e := p.Explain(r); (e.Err == nil) != (err == nil) || e.String() == "" {
			t.Fatalf("%v and %v", e.Err, err)
		}
	})
}

func TestTokens(t *testing.T) {
	got := ""
	for _, token := range tokenize("@id(\"a\\\"b;\") // c;\npermit /* ; */ (é==x1::\"ü\") >=!;") {
		got += fmt.Sprintf("%s@%d:%d ", token.text, token.at.Line, token.at.Column)
	}
	if want := `@@1:1 id@1:2 (@1:4 "a\"b;"@1:5 )@1:12 permit@2:1 (@2:16 é@2:17 ==@2:18 x1@2:20 ::@2:22 "ü"@2:24 )@2:27 >=@2:29 !@2:31 ;@2:32 `; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
