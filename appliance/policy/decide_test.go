package policy

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// TestRefusals has a row for each bad input of a person that the policy answers, with the exact words.
func TestRefusals(t *testing.T) {
	const (
		metadata = "metadata and link-local addresses are never reachable"
		zone     = "zone ids are not allowed"
		idn      = "not a valid internationalised name"
	)
	off := parse(t, "address_mode: off\n"+sample[len("\nadmins: [root@corp]\naddress_mode: on\n"):])
	on := parse(t, sample)
	tests := []struct {
		what   string
		policy *Policy
		r      Request
		want   Refusal
	}{
		{"1: unknown, one visible name near", on, Request{User: "ann", Target: "db9", Protocol: SSH},
			Refusal{CodeTargetUnknown, `no target "db9" that you may use`, "near: db-09", "", nil}},
		{"1: unknown, the near name is not visible", on, Request{User: "carl", Target: "db9", Protocol: SSH},
			Refusal{CodeTargetUnknown, `no target "db9" that you may use`, "sallyport ls shows the targets that you may use", "", nil}},
		{"1: unknown, stranger to all but the web", on, Request{User: "carl", Target: "web-3", Protocol: SSH},
			Refusal{CodeTargetUnknown, `no target "web-3" that you may use`, "near: web-1, web-2", "", nil}},
		{"2: exists, but is invisible", on, Request{User: "carl", Target: "db-09", Protocol: SSH},
			Refusal{CodeTargetUnknown, `no target "db-09" that you may use`, "sallyport ls shows the targets that you may use", "", nil}},
		{"2: exists, but in another VNet", on, Request{User: "ann", Target: "web-2", VNet: "hub", Protocol: SSH},
			Refusal{CodeTargetUnknown, `no target "web-2" that you may use`, "near: web-2, web-1", "", nil}},
		{"2: visible, another protocol", on, Request{User: "bob", Target: "db-09", Protocol: TCP, Port: 3389},
			Refusal{CodeDenied, `db-09:3389 denied by rule "ops databases"`, "you may use ssh on 22, rdp on 3389 there; ask an administrator for more", "ops databases", nil}},
		{"2: visible by a rule for a protocol that is not offered", on, Request{User: "eve", Target: "secret-1", Protocol: SSH},
			Refusal{CodeDenied, `secret-1:22 denied by rule "secret keepers"`, "you may use nothing there; ask an administrator for more", "secret keepers", nil}},
		{"2: visible, the protocol is not offered", on, Request{User: "ann", Target: "web-1", Protocol: RDP},
			Refusal{CodeDenied, "web-1 does not offer rdp", "you may use ssh on 22", "", nil}},
		{"2: the rule limits the addresses", parse(t, `
targets: [{name: a, vnet: hub, address: 10.0.5.1, protocols: ssh}]
rules: [{name: small, who: [ann], targets: [a], addresses: [10.0.6.0/24, 10.0.7.0/24]}]`), Request{User: "ann", Target: "a", Protocol: SSH},
			Refusal{CodeDenied, `a:22 at 10.0.5.1 denied by rule "small"`, "the rule allows 10.0.6.0/24, 10.0.7.0/24", "small", nil}},
		{"3: address mode off", off, Request{User: "ann", Target: "10.0.7.1", Protocol: SSH},
			Refusal{CodeAddressMode, "direct addresses are off here; use a target name", "sallyport ls shows the targets that you may use", "", nil}},
		{"3: address mode on, no rule", on, Request{User: "bob", Target: "10.0.7.1", Protocol: SSH},
			Refusal{CodeTargetUnknown, `no target "10.0.7.1" that you may use`, "sallyport ls shows the targets that you may use", "", nil}},
		{"3: several VNets", on, Request{User: "ann", Target: "10.0.7.1", Protocol: SSH},
			Refusal{CodeName, "10.0.7.1 may lie in several vnets", "say in which: hub, lab", "", nil}},
		{"4: metadata", on, Request{User: "ann", Target: "169.254.169.254", Protocol: SSH},
			Refusal{CodeForbiddenAddress, metadata, "169.254.169.254 is one of them, and no rule can allow it", "", nil}},
		{"4: metadata comes before address mode", off, Request{User: "ann", Target: "169.254.169.254", Protocol: SSH},
			Refusal{CodeForbiddenAddress, metadata, "169.254.169.254 is one of them, and no rule can allow it", "", nil}},
		{"4: Azure's wire server", on, Request{User: "ann", Target: "168.63.129.16", Protocol: SSH},
			Refusal{CodeForbiddenAddress, metadata, "168.63.129.16 is one of them, and no rule can allow it", "", nil}},
		{"4: loopback", on, Request{User: "ann", Target: "127.0.0.1", Protocol: SSH},
			Refusal{CodeForbiddenAddress, "127.0.0.1 is never reachable", "denied by the fence", "", nil}},
		{"5: decimal", on, Request{User: "ann", Target: "2852039166", Protocol: SSH},
			Refusal{CodeForbiddenAddress, metadata, "169.254.169.254 is one of them, and no rule can allow it", "", nil}},
		{"5: hexadecimal", on, Request{User: "ann", Target: "0xA9FEA9FE", Protocol: SSH},
			Refusal{CodeForbiddenAddress, metadata, "169.254.169.254 is one of them, and no rule can allow it", "", nil}},
		{"5: mapped", on, Request{User: "ann", Target: "[::ffff:169.254.169.254]", Protocol: SSH},
			Refusal{CodeForbiddenAddress, metadata, "169.254.169.254 is one of them, and no rule can allow it", "", nil}},
		{"5: NAT64", on, Request{User: "ann", Target: "64:ff9b::a9fe:a9fe", Protocol: SSH},
			Refusal{CodeForbiddenAddress, metadata, "169.254.169.254 is one of them, and no rule can allow it", "", nil}},
		{"6: zone", on, Request{User: "ann", Target: "fe80::1%eth0", Protocol: SSH},
			Refusal{CodeName, zone, "leave out the % and what follows it", "", nil}},
		{"7: punycode of nothing", on, Request{User: "ann", Target: "xn--example-.com", Protocol: SSH},
			Refusal{CodeName, idn, "use a target's name as sallyport ls shows it", "", nil}},
		{"7: not a name at all", on, Request{User: "ann", Target: "db 1", Protocol: SSH},
			Refusal{CodeName, "not a valid target name", "names have letters a-z, digits, dots and dashes", "", nil}},
		{"7: control characters", on, Request{User: "ann", Target: "db\x1b[31m", Protocol: SSH},
			Refusal{CodeName, "not a valid target name", "names have letters a-z, digits, dots and dashes", "", nil}},
		{"7: half an address", on, Request{User: "ann", Target: "10.0.256", Protocol: SSH},
			Refusal{CodeName, "not a valid address", "use a target's name", "", nil}},
		{"7: full-width digits", on, Request{User: "ann", Target: "１69.254.169.254", Protocol: SSH},
			Refusal{CodeName, "not a valid target name", "names have letters a-z, digits, dots and dashes", "", nil}},
		{"7: no protocol of ours", on, Request{User: "ann", Target: "db-09", Protocol: "vnc"},
			Refusal{CodeName, "the protocol must be ssh, rdp or tcp", "", "", nil}},
		{"9: port not granted", on, Request{User: "bob", Target: "db-09", Protocol: TCP, Port: 5432},
			Refusal{CodePortDenied, "port 5432 is not part of this grant (22, 3389)", "use one of these ports, or ask an administrator to add it to the target and the rule", "ops databases", nil}},
		{"9: port not granted, protocol left open", on, Request{User: "bob", Target: "db-09", Port: 5432},
			Refusal{CodePortDenied, "port 5432 is not part of this grant (22, 3389)", "use one of these ports, or ask an administrator to add it to the target and the rule", "ops databases", nil}},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			tt.r.Time = noon
			g, err := tt.policy.Decide(tt.r)
			var got *Refusal
			if !errors.As(err, &got) {
				t.Fatalf("granted %+v, %v", g, err)
			}
			if *got != tt.want {
				t.Errorf("got\n%#v, want\n%#v", *got, tt.want)
			}
		})
	}
}

func TestUnknownAndInvisibleAnswerAlike(t *testing.T) {
	with := parse(t, sample)
	without := parse(t, `
targets: [{name: web-1, vnet: hub, address: 10.0.0.1, protocols: ssh}, {name: web-2, vnet: lab, address: 10.0.0.2, protocols: ssh}]
rules: [{name: web, who: ["*"], targets: ["web-*"]}]`)
	for _, name := range []string{"db-09", "secret-1", "SECRET-1", "db-8"} {
		for _, port := range []uint16{0, 22, 5432} {
			r := Request{User: "carl", Target: name, Protocol: SSH, Port: port}
			_, a := with.Decide(r)
			_, b := without.Decide(r)
			if *a.(*Refusal) != *b.(*Refusal) {
				t.Errorf("%s: %v where it exists, %v where it does not", name, a, b)
			}
		}
	}
}

func TestGrants(t *testing.T) {
	p := parse(t, sample)
	hostKey := []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"}
	tests := []struct {
		what string
		r    Request
		want Grant
	}{
		{"strictest of two rules, first is named", Request{User: "ann", Target: "db-09", Protocol: SSH},
			Grant{Target: "db-09", VNet: "hub", Host: "10.0.5.9", Port: 22, Protocol: SSH, Rule: "ops databases", Idle: 15 * time.Minute, Lifetime: time.Hour}},
		{"a rule for another protocol does not limit", Request{User: "ann", Target: "db-09", Protocol: RDP},
			Grant{Target: "db-09", VNet: "hub", Host: "10.0.5.9", Port: 3389, Protocol: RDP, Rule: "ops databases", Idle: 15 * time.Minute, Lifetime: 8 * time.Hour}},
		{"upper case is the same name", Request{User: "ann", Target: "DB-09", Protocol: RDP},
			Grant{Target: "db-09", VNet: "hub", Host: "10.0.5.9", Port: 3389, Protocol: RDP, Rule: "ops databases", Idle: 15 * time.Minute, Lifetime: 8 * time.Hour}},
		{"pins and a DNS name", Request{User: "carl", Target: "web-1", Protocol: SSH},
			Grant{Target: "web-1", VNet: "hub", Host: "web-1.corp.example", Port: 22, Protocol: SSH, Rule: "everyone's web", Lifetime: 2 * time.Hour, HostKeys: hostKey}},
		{"the first port is the default", Request{User: "carl", Target: "web-2", Protocol: SSH},
			Grant{Target: "web-2", VNet: "lab", Host: "fd00:1::2", Port: 2222, Protocol: SSH, Rule: "everyone's web", Lifetime: 2 * time.Hour}},
		{"the protocol follows from the port", Request{User: "ann", Target: "db-09", Port: 3389},
			Grant{Target: "db-09", VNet: "hub", Host: "10.0.5.9", Port: 3389, Protocol: RDP, Rule: "ops databases", Idle: 15 * time.Minute, Lifetime: 8 * time.Hour}},
		{"neither protocol nor port", Request{User: "bob", Target: "db-09"},
			Grant{Target: "db-09", VNet: "hub", Host: "10.0.5.9", Port: 22, Protocol: SSH, Rule: "ops databases", Idle: 15 * time.Minute, Lifetime: 8 * time.Hour}},
		{"an address", Request{User: "ann", Target: "10.0.7.1", VNet: "hub", Protocol: TCP, Port: 5433},
			Grant{Target: "10.0.7.1", VNet: "hub", Host: "10.0.7.1", Port: 5433, Protocol: TCP, Rule: "lab range"}},
		{"an address, default port", Request{User: "ann", Target: "10.0.7.1", VNet: "lab", Protocol: SSH},
			Grant{Target: "10.0.7.1", VNet: "lab", Host: "10.0.7.1", Port: 22, Protocol: SSH, Rule: "lab ssh"}},
		{"an IPv6 address in brackets", Request{User: "ann", Target: "[fd00:7::5]", VNet: "lab", Protocol: RDP},
			Grant{Target: "fd00:7::5", VNet: "lab", Host: "fd00:7::5", Port: 3389, Protocol: RDP, Rule: "lab ssh"}},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			tt.r.Time = noon
			g, err := p.Decide(tt.r)
			if err != nil {
				t.Fatal(err)
			}
			tt.want.User = tt.r.User
			if tt.want.Lifetime > 0 {
				tt.want.Expires = noon.Add(tt.want.Lifetime)
			}
			if !slices.Equal(g.HostKeys, tt.want.HostKeys) {
				t.Errorf("host keys %q", g.HostKeys)
			}
			g.HostKeys, tt.want.HostKeys = nil, nil
			if exported(g) != exported(tt.want) {
				t.Errorf("got\n%+v, want\n%+v", g, tt.want)
			}
		})
	}
}

// exported is what two grants can be compared by.
func exported(g Grant) [10]any {
	return [10]any{g.User, g.Target, g.VNet, g.Host, g.Port, g.Protocol, g.Rule, g.Idle, g.Lifetime, g.Expires}
}

// TestBench: who may measure is said by bench and by nothing else, and it gives no right to any target.
func TestBench(t *testing.T) {
	for _, tt := range []struct {
		who  string
		user string
		may  bool
	}{
		{"", "ann", false},
		{"bench: []\n", "ann", false},
		{"bench: [ann]\n", "ann", true},
		{"bench: [ann]\n", "bob", false},
		{"bench: [\"group:ops\"]\n", "bob", true},
		{"bench: [\"group:ops\"]\n", "carl", false},
		{"bench: [\"*\"]\n", "carl", true},
	} {
		p := parse(t, tt.who+"admins: [ann]\ngroups: {ops: [ann, bob]}\ntargets: [{name: echo, vnet: hub, address: 10.0.0.1, protocols: ssh}]\n")
		g, err := p.Decide(Request{User: tt.user, Target: "echo", Protocol: Bench, Time: noon})
		var no *Refusal
		switch {
		case tt.may && (err != nil || g.Protocol != Bench || g.Target != "echo" || g.Host != "" || g.Lifetime != benchLifetime || !g.Expires.Equal(noon.Add(benchLifetime))):
			t.Errorf("%s%s: %+v, %v", tt.who, tt.user, g, err)
		case !tt.may && (!errors.As(err, &no) || no.Code != CodeDenied || no.Hint == ""):
			t.Errorf("%s%s: %+v, %v", tt.who, tt.user, g, err)
		}
		if len(p.Visible(tt.user)) > 0 {
			t.Errorf("%s%s sees a target", tt.who, tt.user)
		}
	}
}

func TestDecideAddress(t *testing.T) {
	p := parse(t, sample)
	decide := func(user, target string) Grant {
		g, err := p.Decide(Request{User: user, Target: target, Protocol: SSH, Time: noon})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	tests := []struct {
		what string
		g    Grant
		addr string
		code string
	}{
		{"a name resolves anywhere", decide("carl", "web-1"), "10.0.8.1", ""},
		{"a rule's addresses limit", decide("bob", "web-1"), "10.0.8.1", CodeDenied},
		{"within a rule's addresses", decide("bob", "web-1"), "10.0.6.200", ""},
		{"mapped, within a rule's addresses", decide("bob", "web-1"), "::ffff:10.0.6.200", ""},
		{"forbidden", decide("carl", "web-1"), "169.254.169.254", CodeForbiddenAddress},
		{"forbidden, mapped", decide("carl", "web-1"), "::ffff:169.254.169.254", CodeForbiddenAddress},
		{"zone", decide("carl", "web-1"), "fe80::1%eth0", CodeName},
		{"an address target is that address", decide("ann", "db-09"), "10.0.5.9", ""},
		{"an address target is no other", decide("ann", "db-09"), "10.0.5.10", CodeDenied},
		{"no grant", Grant{}, "10.0.5.9", CodeDenied},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			_, err := p.DecideAddress(tt.g, netip.MustParseAddr(tt.addr))
			if tt.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var r *Refusal
			if !errors.As(err, &r) || r.Code != tt.code {
				t.Errorf("got %v, want %s", err, tt.code)
			}
		})
	}
	if _, err := p.DecideAddress(decide("carl", "web-1"), netip.Addr{}); err == nil {
		t.Error("the zero address is allowed")
	}
}

func TestVisible(t *testing.T) {
	p := parse(t, sample)
	tests := []struct{ user, want string }{
		{"ann", "db-09 (ssh on 22, rdp on 3389) web-1 (ssh on 22) web-2 (ssh on 2222, 22) "},
		{"bob", "db-09 (ssh on 22, rdp on 3389) web-1 (ssh on 22) web-2 (ssh on 2222, 22) "},
		{"carl", "web-1 (ssh on 22) web-2 (ssh on 2222, 22) "},
		{"eve", "secret-1 (nothing) web-1 (ssh on 22) web-2 (ssh on 2222, 22) "},
	}
	for _, tt := range tests {
		got := ""
		for _, target := range p.Visible(tt.user) {
			got += target.Name + " (" + joinOffers(target.Offers) + ") "
		}
		if got != tt.want {
			t.Errorf("%s sees %s, want %s", tt.user, got, tt.want)
		}
	}
}

func TestIsAdmin(t *testing.T) {
	p := parse(t, sample)
	if !p.IsAdmin("root@corp") || p.IsAdmin("ann") || p.IsAdmin("*") || p.IsAdmin("") {
		t.Error("admins are not exactly those of the file")
	}
	if got := p.Visible("root@corp"); len(got) != 2 {
		t.Errorf("an administrator sees %d targets without a rule, want the two that everyone sees", len(got))
	}
}

func TestEmptyPolicyDeniesAll(t *testing.T) {
	p := parse(t, "")
	for _, target := range []string{"db-09", "10.0.0.1", "*", "web-*"} {
		if g, err := p.Decide(Request{User: "ann", Target: target, Protocol: SSH}); err == nil {
			t.Errorf("%s: granted %+v", target, g)
		}
	}
}
