package policy

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestFaults(t *testing.T) {
	const target = "targets:\n  - {name: db-1, vnet: hub, address: 10.0.0.1, protocols: ssh}\n"
	rule := func(rest string) string { return target + "rules:\n  - {name: r, who: [ann], " + rest + "}\n" }
	tests := []struct{ what, data, want string }{
		{"unknown keys, all of them", "targts: []\nadmin: []\n", `access.yaml:1:1: unknown key "targts"; did you mean "targets"?
access.yaml:2:1: unknown key "admin"; did you mean "admins"?`},
		{"not YAML", "admins: [ann\n", `access.yaml:1:9: the list that begins here does not end; add the ]`},
		{"wrong type", "admins: ann\n", `access.yaml:1:9: admins must be a list, not text; put it in brackets: [ann]`},
		{"number for text", "admins: [42]\n", `access.yaml:1:10: admins[0] must be text, not a whole number; put it in quotes: "42"`},
		{"no value", "admins:\n", `access.yaml:1:1: admins has no value; give it one or leave the key out`},
		{"key twice", "admins: [ann]\nadmins: [bob]\n", `access.yaml:2:1: key "admins" is given twice; the first is in line 1`},
		{"user name", "admins: [\"Ann B\"]\n", `access.yaml:1:10: user name "Ann B" must be 1 to 64 of a-z, 0-9, dot, dash, _ and @`},
		{"who may measure", "bench: [\"group:ops\", \"Ann B\"]\n", `access.yaml:1:9: there is no group "ops"; add it under groups
access.yaml:1:22: user name "Ann B" must be 1 to 64 of a-z, 0-9, dot, dash, _ and @`},
		{"address mode", "address_mode: maybe\n", `access.yaml:1:15: address_mode must be on or off`},
		{"group name", "groups: {Ops!: [ann]}\n", `access.yaml:1:10: group name "Ops!" must be 1 to 32 of a-z, 0-9 and -`},
		{"target without anything", "targets:\n  - {}\n", `access.yaml:2:5: target 1 has no name
access.yaml:2:5: target "" has no vnet
access.yaml:2:5: target "" has no address
access.yaml:2:5: target "" has no protocols; such as protocols: ssh`},
		{"target twice", target + target[len("targets:\n"):], `access.yaml:3:12: target "db-1" is there twice; the first is in line 2`},
		{"target name is an address", strings.Replace(target, "db-1", `"0xa9fea9fe"`, 1), `access.yaml:2:12: target name "0xa9fea9fe" looks like an IP address; add a letter, such as db-0xa9fea9fe`},
		{"target name is a number", strings.Replace(target, "db-1", `"10.1"`, 1), `access.yaml:2:12: target name "10.1" looks like an IP address; add a letter, such as db-10.1`},
		{"target name", strings.Replace(target, "db-1", `DB_1`, 1), `access.yaml:2:12: target name "DB_1" must be 1 to 63 of a-z, 0-9, dot and dash, and begin and end with a letter or digit`},
		{"forbidden address", strings.Replace(target, "10.0.0.1", "169.254.169.254", 1), `access.yaml:2:38: address 169.254.169.254 is never reachable: denied by the fence`},
		{"odd spelling", strings.Replace(target, "10.0.0.1", `"0x0a000001"`, 1), `access.yaml:2:38: address "0x0a000001" is not in its plain spelling; write it as 10.0.0.1`},
		{"half an address", strings.Replace(target, "10.0.0.1", "10.0.256", 1), `access.yaml:2:38: address "10.0.256" is not a valid IP address; such as 10.0.5.4`},
		{"no address at all", strings.Replace(target, "10.0.0.1", "db 1", 1), `access.yaml:2:38: address "db 1" is neither an IP address nor a DNS name; such as 10.0.5.4 or db-1.corp.example`},
		{"unknown protocol", strings.Replace(target, "ssh", "vnc", 1), `access.yaml:2:59: targets[0].protocols: protocol "vnc" is not known; known are ssh, rdp and tcp`},
		{"tcp without port", strings.Replace(target, "ssh", "tcp", 1), `access.yaml:2:59: targets[0].protocols.tcp has no standard port; such as tcp: [5432]`},
		{"port out of range", strings.Replace(target, "ssh", "{ssh: 65536}", 1), `access.yaml:2:65: targets[0].protocols.ssh is 65536; a port is 1 to 65535`},
		{"port 0 in a list", strings.Replace(target, "ssh", "{ssh: [22, 0]}", 1), `access.yaml:2:70: targets[0].protocols.ssh[1] is 0; a port is 1 to 65535`},
		{"octal port", strings.Replace(target, "ssh", "{ssh: 022}", 1), `access.yaml:2:65: targets[0].protocols.ssh is 022; it must be a whole number from 0 to 2147483647 in plain decimal`},
		{"host key", strings.Replace(target, "ssh}", "ssh, host_keys: [hello]}", 1), `access.yaml:2:76: this is not an SSH public key; such as "ssh-ed25519 AAAA…", a line of ssh-keyscan without the host`},
		{"rule without anything", "rules:\n  - {}\n", `access.yaml:2:5: rule 1 has no name; the person who is refused sees it
access.yaml:2:5: rule "" does not say who; such as who: [ann, group:ops] or who: ["*"]
access.yaml:2:5: rule "" reaches nothing; give targets, labels or addresses; targets: ["*"] means all`},
		{"unknown target", rule("targets: [db-2]"), `access.yaml:4:37: there is no target "db-2"; did you mean "db-1"?`},
		{"unknown group", strings.Replace(rule("targets: [db-1]"), "[ann]", `["group:ops"]`, 1), `access.yaml:4:21: there is no group "ops"; add it under groups`},
		{"glued colon", strings.Replace(rule("targets: [db-1]"), "[ann]", `[group:ops]`, 1), `access.yaml:4:21: text with a colon stands inside { }; put it in quotes: "group:ops"`},
		{"empty list means nothing, not all", rule("targets: [db-1], protocols: []"), `access.yaml:4:44: protocols of rule "r" is empty; leave the key out to mean all`},
		{"rule's protocol", rule("targets: [db-1], protocols: [smb]"), `access.yaml:4:56: protocol "smb" is not known; known are ssh, rdp and tcp`},
		{"limit without unit", rule("targets: [db-1], idle: 15"), `access.yaml:4:50: rules[0].idle is 15 without a unit; write a number and its unit, such as 15m, 8h or 1h30m`},
		{"negative limit", rule("targets: [db-1], idle: -15m"), `access.yaml:4:50: rules[0].idle is "-15m", which is not a length of time; write a number and its unit, such as 15m, 8h or 1h30m`},
		{"rate without unit", rule("targets: [db-1], bandwidth: 20"), `access.yaml:4:55: rules[0].bandwidth is 20 without a unit; write a number and its unit, such as 500kbit, 20mbit or 1gbit`},
		{"rate in another unit", rule("targets: [db-1], bandwidth: 20MB"), `access.yaml:4:55: rules[0].bandwidth is "20MB", which is not a rate; write a number and its unit, such as 500kbit, 20mbit or 1gbit`},
		{"approval by nobody", rule("targets: [db-1], approval: leads"), `access.yaml:4:54: there is no group "leads"; add it under groups`},
		{"long hint", rule("targets: [db-1], hint: \"" + strings.Repeat("x", 201) + "\""), `access.yaml:4:50: hint of rule "r" must be 1 to 200 printable characters`},
		{"zone", "zone: Berlin\n", `access.yaml:1:7: zone is "Berlin", which is not a time zone; such as Europe/Berlin or UTC`},
		{"prefix", rule("addresses: [10.0.5.4/24]"), `access.yaml:4:39: 10.0.5.4/24 has bits beyond its prefix length; write 10.0.5.0/24`},
		{"no prefix", rule("addresses: [10.0.5.4]"), `access.yaml:4:39: rules[0].addresses[0] is "10.0.5.4", which is not an address with a prefix length; such as 10.0.0.0/16`},
		{"tcp on addresses without ports", rule("addresses: [10.0.5.0/24], protocols: [tcp]"), `access.yaml:4:6: rule "r" is about addresses and allows tcp, so it must have ports; such as ports: [5432]`},
		{"ports of several protocols on addresses", rule("addresses: [10.0.5.0/24], ports: [22]"), `access.yaml:4:6: rule "r" is about addresses and has ports, so it must have one protocol; make one rule for each protocol`},
		{"anchor", "admins: &a [ann]\n", `access.yaml:1:9: anchors, aliases and merge keys are not read ("&"); write the value out where it is needed`},
		{"second document", "admins: [ann]\n---\nadmins: [bob]\n", `access.yaml:3:7: a second document begins here; one is read`},
		{"escape", "admins: [ann]\n# \x1b[31m\n", `access.yaml:2:3: a control character (U+001B) has no place in this file`},
		{"escape, escaped", "rules: [{name: \"a\\eb\", who: [ann], targets: [\"*\"]}]\n", `access.yaml:1:16: rule name "a\x1bb" must be 1 to 64 printable characters without a quote`},
		{"bidi", "admins: [ann]\n# \u202e\n", `access.yaml:2:3: U+202E changes the direction of text, so that the line reads other than it is`},
		{"not UTF-8", "admins: [ann]\n# \xff\n", `access.yaml:2:3: this byte (0xff) is not UTF-8; save the file as UTF-8`},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			_, err := parseOne(tt.data)
			if err == nil {
				t.Fatal("no fault")
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			var f Fault
			if !errors.As(err, &f) {
				t.Errorf("%T holds no Fault", err)
			}
		})
	}
}

func TestUnknownVNet(t *testing.T) {
	o := fakes
	o.VNets = []string{"hub"}
	_, err := Parse([]File{{"a", []byte("targets: [{name: a, vnet: hubb, address: b, protocols: ssh}]\n")}}, o)
	if err == nil || err.Error() != `a:1:27: there is no vnet "hubb"; did you mean "hub"?` {
		t.Error(err)
	}
}

func TestOptionsMustBeSet(t *testing.T) {
	for _, o := range []Options{{}, {AddressSyntax: fakeSyntax}, {Forbidden: fakeForbidden}} {
		if p, err := Parse([]File{{"a", nil}}, o); err == nil {
			t.Errorf("%+v", p)
		}
	}
}

func TestAddressModeWords(t *testing.T) {
	for word, want := range map[string]bool{"on": true, "off": false, `"on"`: true, "true": true, "false": false} {
		if got := parse(t, "address_mode: "+word+"\n").AddressMode(); got != want {
			t.Errorf("address_mode: %s reads as %v", word, got)
		}
	}
	if parse(t, "").AddressMode() {
		t.Error("address mode is on by default")
	}
}

func TestProtocolForms(t *testing.T) {
	for form, want := range map[string]string{
		"ssh":                             "ssh on 22",
		"[rdp, ssh]":                      "ssh on 22, rdp on 3389",
		"{ssh: }":                         "ssh on 22",
		"{tcp: [5432, 80], ssh: 2222}":    "ssh on 2222, tcp on 5432, 80",
		"{rdp: [3390, 3389], ssh: [22]}":  "ssh on 22, rdp on 3390, 3389",
		"\n      ssh:\n      rdp: 3390\n": "ssh on 22, rdp on 3390",
	} {
		data := "targets:\n  - name: a\n    vnet: hub\n    address: b\n    protocols: " + form + "\n"
		if got := joinOffers(parse(t, data).Targets()[0].Offers); got != want {
			t.Errorf("%s reads as %s, want %s", form, got, want)
		}
	}
}

func TestKeys(t *testing.T) {
	want := map[string][]string{
		"":        {"admins", "bench", "address_mode", "zone", "motd", "groups", "targets", "rules", "tests"},
		"targets": {"name", "vnet", "address", "protocols", "labels", "host_keys", "host_ca", "rdp"},
		"rdp":     {"certificate", "ca", "credssp", "autologon", "display_control", "graphics"},
		"rules": {"name", "who", "targets", "labels", "protocols", "ports", "addresses", "vnets", "idle", "lifetime", "grace",
			"bandwidth", "record", "approval", "principals", "hint"},
		"tests": {"name", "user", "groups", "action", "target", "vnet", "protocol", "port", "address", "portal", "source", "transport", "at",
			"mfa_age", "allow", "by", "code"},
	}
	if got := Keys(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample, "ann", "db-09")
	f.Add("rules: [{name: a, who: [\"*\"], targets: [\"*\"]}]\ntargets: [{name: a, vnet: b, address: c, protocols: [ssh, rdp]}]", "x", "a")
	f.Add("zone: UTC\ngroups: {g: []}\ntargets: [{name: a, vnet: b, address: c, protocols: ssh}]\nrules: [{name: a, who: [\"group:g\", x], targets: [a], bandwidth: 1mbit, record: true, approval: g, hint: h}]\ntests: [{user: x, target: a, at: 2026-01-02, allow: false}]", "x", "a")
	f.Add("a: &a [*a, *a]\nb: !!str x\n<<: *a\n", "", "0x7f.1")
	f.Add(strings.Repeat("[", 1000), "", "fe80::1%eth0")
	f.Add(strings.Repeat("- ", 1000), "", "xn--a")
	f.Fuzz(func(t *testing.T, data, user, target string) {
		watchdog := time.AfterFunc(10*time.Second, func() { panic("Parse takes more than ten seconds") })
		defer watchdog.Stop()
		p, err := parseOne(data)
		if err != nil {
			var faults Faults
			if p != nil || !errors.As(err, &faults) || len(faults) == 0 {
				t.Fatalf("%v, %v", p, err)
			}
			for _, fault := range faults {
				if fault.Line < 1 || fault.Column < 1 || fault.Message == "" {
					t.Fatalf("a fault without a place or a message: %+v", fault)
				}
			}
			return
		}
		g, err := p.Decide(Request{User: user, Target: target})
		if err != nil {
			if r, ok := err.(*Refusal); !ok || r.Code == "" || strings.ContainsAny(r.Sentence, "\n\x1b") {
				t.Fatalf("%#v", err)
			}
			return
		}
		if g.Rule == "" || g.Port == 0 || g.VNet == "" || g.Host == "" {
			t.Fatalf("an incomplete grant: %+v", g)
		}
	})
}
