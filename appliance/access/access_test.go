package access

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"sallyport/appliance/policy"
)

var options = policy.Options{
	AddressSyntax: func(s string) (netip.Addr, bool, error) {
		a, err := netip.ParseAddr(s)
		return a, err == nil, nil
	},
	Forbidden: func(netip.Addr) error { return nil },
	VNets:     []string{"hub"},
}

const whole = `
admins: [ann]
zone: Europe/Berlin
groups: {ops: [bob, ann], leads: []}
targets:
  - {name: db-1, vnet: hub, address: 10.0.0.1, protocols: {ssh: 22, tcp: [5432, 5433]}, labels: {env: prod, tier: db}}
  - {name: db-2, vnet: hub, address: 10.0.0.2, protocols: ssh}
rules:
  - {name: operators, who: ["group:ops"], targets: ["db-*"], protocols: [ssh], idle: 30m, bandwidth: 10mbit}
tests:
  - {user: bob, target: db-1, protocol: ssh, at: 2026-11-23T10:00, allow: true}
`

func read(t *testing.T, f Files) *Rules {
	t.Helper()
	r, err := Read(f, options)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestDiff: what counts differs, what does not is nothing.
func TestDiff(t *testing.T) {
	was := Files{"access.yaml": []byte(whole), "prod.cedar": []byte("@id(\"night\") forbid (principal, action == Action::\"connect\", resource) when { context.time.hour < 6 };\n"),
		"accounts.yaml": []byte("accounts: [{user: dan, groups: [ops]}, {user: eve}]\n")}
	for name, c := range map[string]struct {
		file, old, new string
		want           []string
	}{
		"nothing":       {"access.yaml", "", "", nil},
		"a comment":     {"access.yaml", "\nzone:", "\n# where we are\nzone:", nil},
		"another order": {"access.yaml", "[bob, ann]", "[ann, bob]", nil},
		"spelling":      {"access.yaml", "protocols: ssh}", "protocols: {ssh: 22}}", nil},
		"white space":   {"prod.cedar", " when {", "\n  when\n{  // at night\n", nil},
		"a setting":     {"access.yaml", "Europe/Berlin", "UTC", []string{"changed setting zone value Europe/Berlin→UTC"}},
		"an admin":      {"access.yaml", "admins: [ann]", "admins: [ann, bob]", []string{"changed setting admins value ann→ann, bob"}},
		"a member":      {"access.yaml", "[bob, ann]", "[bob]", []string{"changed group ops members ann, bob→bob"}},
		"a label":       {"access.yaml", "tier: db", "tier: web", []string{"changed target db-1 labels env=prod, tier=db→env=prod, tier=web"}},
		"a port":        {"access.yaml", "[5432, 5433]", "5432", []string{"changed target db-1 protocols ssh:22, tcp:5432, tcp:5433→ssh:22, tcp:5432"}},
		"a name":        {"access.yaml", "name: db-2", "name: db-3", []string{"removed target db-2 address 10.0.0.2→ protocols ssh:22→ vnet hub→", "added target db-3 address →10.0.0.2 protocols →ssh:22 vnet →hub"}},
		"a limit":       {"access.yaml", "idle: 30m, ", "", []string{"changed rule operators idle 30m0s→"}},
		"a condition":   {"prod.cedar", "< 6", "< 7", []string{"changed policy night text"}},
		"an account":    {"accounts.yaml", "groups: [ops]", "disabled: true", []string{"changed account dan disabled →true groups ops→"}},
		"a test":        {"access.yaml", "user: bob, target: db-1", "user: bob, target: db-2", []string{"removed test bob, db-1 allow true→ at", "added test bob, db-2 allow"}},
	} {
		is := Files{}
		for file, data := range was {
			is[file] = data
		}
		is[c.file] = []byte(strings.Replace(string(was[c.file]), c.old, c.new, 1))
		changes := Diff(read(t, was).Things, read(t, is).Things)
		var got []string
		for _, ch := range changes {
			text := ch.String()
			for _, k := range ch.Keys {
				text += fmt.Sprintf(" %s %s→%s", k.Key, k.Was, k.Is)
			}
			got = append(got, text)
		}
		if len(got) != len(c.want) || !slices.EqualFunc(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(c.want)), strings.HasPrefix) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if back := Diff(read(t, is).Things, read(t, was).Things); len(back) != len(changes) {
			t.Errorf("%s: %d changes there, %d back", name, len(changes), len(back))
		}
	}
}

func TestSummary(t *testing.T) {
	changes := Diff(nil, read(t, Files{"access.yaml": []byte(whole)}).Things)
	want := "8 added: setting admins, setting zone, target db-1, target db-2, group leads, group ops, rule operators, test bob, db-1"
	if got := Summary(changes); got != want {
		t.Errorf("%q", got)
	}
	var many []Change
	for i := range 1000 {
		many = append(many, Change{Action: Removed, Kind: "target", Name: fmt.Sprintf("db-ü%d", i)})
	}
	if got := Summary(many); len(got) > maxSummary || !strings.HasPrefix(got, "1000 removed: target db-ü0") || !strings.HasSuffix(got, "…") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

// TestInitial: who has no files yet is administered by the accounts in the group sallyport-admins, and nobody reaches anything.
func TestInitial(t *testing.T) {
	p := read(t, Initial()).Policy
	if p.IsAdmin("ann") || p.IsAdmin("ann", "admins") || !p.IsAdmin("ann", "sallyport-admins") || len(p.Targets()) != 0 {
		t.Error("an appliance's first rules")
	}
}

func TestAccountChanges(t *testing.T) {
	a := func(user string, disabled bool, groups ...string) Account { return Account{user, groups, disabled} }
	got := AccountChanges([]Account{a("same", false, "ops"), a("group", false, "ops"), a("barred", false), a("gone", false)},
		[]Account{a("same", false, "ops"), a("group", false), a("barred", true), a("new", false)})
	want := []AccountChange{{Account: a("same", false, "ops"), Keep: true}, {Account: a("group", false)}, {Account: a("barred", true)}, {Account: a("new", false)},
		{Account: a("gone", false), Remove: true}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	var ends []string
	for _, c := range got {
		if c.Ends() {
			ends = append(ends, c.User)
		}
	}
	if !slices.Equal(ends, []string{"barred", "gone"}) {
		t.Errorf("%q end", ends)
	}
}

func TestPack(t *testing.T) {
	f := Files{"access.yaml": []byte(whole), "a.cedar": {}}
	back, err := Unpack(f.Pack())
	if err != nil || len(back) != 2 || string(back["access.yaml"]) != whole {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{"", "[]", "{}", `{"../x.yaml":""}`, `{"access.yaml":"!"}`} {
		if _, err := Unpack([]byte(bad)); err == nil {
			t.Errorf("%s is a version", bad)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(Initial().Pack())
	f.Add([]byte(`{"../x.yaml":""}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := Unpack(data)
		if err != nil {
			return
		}
		if err := files.Check(); err != nil {
			t.Errorf("%v", err)
		}
		if again, err := Unpack(files.Pack()); err != nil || !slices.Equal(again.Pack(), files.Pack()) {
			t.Errorf("not the same again: %v", err)
		}
	})
}

func FuzzAccounts(f *testing.F) {
	f.Add([]byte("accounts:\n  - {user: ann, groups: [ops], disabled: true}\n"))
	f.Add([]byte("accounts: [{user: A}, {user: a}, {user: a}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		accounts, err := readAccounts(data, []policy.Thing{{Kind: policy.KindGroup, Name: "ops"}})
		var faults policy.Faults
		if err != nil && !errors.As(err, &faults) {
			t.Fatalf("%v", err)
		}
		if err == nil && data != nil && len(AccountsOf(Files{AccountsFile: data})) != len(accounts) {
			t.Error("read in another way, there are other accounts")
		}
	})
}
