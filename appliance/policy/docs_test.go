package policy

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func readDocs(t *testing.T) string { return readPage(t, "access.md") }

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestExamplesInDocsParse(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(readDocs(t), -1)
	if len(blocks) < 4 {
		t.Errorf("only %d examples are in the docs", len(blocks))
	}
	for _, block := range blocks {
		if _, err := parseOne(block[1]); err != nil {
			t.Errorf("%s\n%v", block[1], err)
		}
	}
}

// TestGuestsPage: what docs/guests.md shows gives a person of the group the right to share, and nobody else.
func TestGuestsPage(t *testing.T) {
	const base = "groups: {ops: [ann]}\ntargets:\n  - {name: db-1, vnet: hub, address: 10.0.0.1, protocols: ssh, labels: {env: test}}\n"
	text := readPage(t, "guests.md")
	rules, policies := blocks(text, "yaml"), blocks(text, "cedar")
	if len(rules) != 1 || len(policies) != 1 {
		t.Fatalf("%d examples of rules and %d of policies", len(rules), len(policies))
	}
	connects := strings.Replace(rules[0], ", share: true", "", 1)
	if connects == rules[0] {
		t.Fatalf("the rule shares nothing:\n%s", rules[0])
	}
	shares := func(user, rules, policy string) bool {
		t.Helper()
		r := Request{User: user, Target: "db-1", Protocol: "ssh", Time: noon, Guest: &Guest{Name: "guest:x-1", MFA: true, MFAAge: time.Minute}}
		_, err := alone(t, base+rules, policy).Decide(r)
		return err == nil
	}
	if !shares("ann", rules[0], "") || shares("bob", rules[0], "") {
		t.Error("the rule does not let those share whom it names")
	}
	if shares("ann", connects, "") || !shares("ann", connects, policies[0]) {
		t.Error("the policy does not let those share whom it names")
	}
}

// TestReadme: the access file of the README is one.
func TestReadme(t *testing.T) {
	_, text, found := strings.Cut(readPage(t, "../README.md"), "    # /etc/sallyport/access.yaml\n")
	text, _, ended := strings.Cut(text, "\n\n")
	if !found || !ended {
		t.Fatal("the README has no access file")
	}
	if _, err := parseOne(strings.ReplaceAll("\n"+text, "\n    ", "\n")); err != nil {
		t.Error(err)
	}
}

func TestDocsHaveEveryKeyAndCode(t *testing.T) {
	text := readDocs(t)
	for of, keys := range Keys() {
		page, text := "access.md", text
		if of == "tests" {
			page, text = "policy.md", readPage(t, "policy.md")
		}
		for _, key := range keys {
			if !strings.Contains(text, "\n| `"+key+"` |") {
				t.Errorf("docs/%s has no row for %s", page, key)
			}
		}
	}
	for _, code := range []string{CodeTargetUnknown, CodeDenied, CodePortDenied, CodePort, CodeName, CodeAddressMode, CodeForbiddenAddress,
		CodePortal, CodeRecording, CodeShare} {
		if !strings.Contains(text, "\n| `"+code+"` |") {
			t.Errorf("docs/access.md has no row for %s", code)
		}
	}
}

// TestFirstExample does what the text below the first example says.
func TestFirstExample(t *testing.T) {
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(readDocs(t))
	p := parse(t, block[1])
	tests := []struct{ user, want string }{
		{"ann", "db-1 (ssh on 22) desk-1 (rdp on 3389) web-1 (ssh on 22) "},
		{"carol", "desk-1 (rdp on 3389) "},
		{"dan", "db-1 (tcp on 5432) "},
		{"eve", ""},
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

// TestPolicyPage runs the examples of docs/policy.md: each policy with the tests below it, of which some allow and some
// refuse, and of which some fail without the policy.
func TestPolicyPage(t *testing.T) {
	_, examples, _ := strings.Cut(readPage(t, "policy.md"), "\n## Examples\n")
	sections := strings.Split(examples, "\n### ")
	base := blocks(sections[0], "yaml")
	if len(base) != 1 || len(sections) < 8 {
		t.Fatalf("%d bases and %d sections", len(base), len(sections))
	}
	for _, section := range sections[1:] {
		title, _, _ := strings.Cut(section, "\n")
		t.Run(title, func(t *testing.T) {
			policies, tests := blocks(section, "cedar"), blocks(section, "yaml")
			if len(policies) != 1 || len(tests) != 1 {
				t.Fatalf("%d policies and %d tests", len(policies), len(tests))
			}
			access := File{"access.yaml", []byte(base[0] + tests[0])}
			p, err := Parse([]File{access, {"example.cedar", []byte(policies[0])}}, fakes)
			if err != nil {
				t.Fatal(err)
			}
			failures, ran := p.Test()
			for _, f := range failures {
				t.Error(f)
			}
			if ran < 2 || !strings.Contains(tests[0], "allow: true") || !strings.Contains(tests[0], "allow: false") {
				t.Errorf("%d tests, not of both kinds", ran)
			}
			without, err := Parse([]File{access}, fakes)
			if err != nil {
				t.Fatal(err)
			}
			if failures, _ := without.Test(); len(failures) == 0 {
				t.Error("the tests pass without the policy")
			}
			if title == "Approval" {
				if g, err := p.Decide(Request{User: "carl", Target: "desk-1", Opaque: true, Time: noon}); err != nil || !slices.Equal(g.Approval, []string{"ops-leads"}) {
					t.Errorf("%+v, %v", g, err)
				}
			}
		})
	}
}

func blocks(text, language string) (found []string) {
	for _, block := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(text, -1) {
		found = append(found, block[1])
	}
	return found
}

// TestPolicyPageIsComplete compares the tables of docs/policy.md with the schema and the annotations.
func TestPolicyPageIsComplete(t *testing.T) {
	text := readPage(t, "policy.md")
	if !strings.Contains(text, "\n```\n"+Schema+"```\n") {
		t.Error("docs/policy.md has another schema")
	}
	for _, a := range annotations {
		if !strings.Contains(text, "\n| `@"+a) {
			t.Errorf("no row for @%s", a)
		}
	}
	for _, a := range actions {
		if _, known := resolvedSchema.Actions[actionUID(a)]; !known || !strings.Contains(text, "\n| `"+a+"` |") {
			t.Errorf("no row or no schema for the action %s", a)
		}
	}
	if len(resolvedSchema.Actions) != len(actions)+1 {
		t.Errorf("the schema has %d actions", len(resolvedSchema.Actions))
	}
	connect := resolvedSchema.Actions[actionUID(Connect)].AppliesTo.Context
	for name := range connect {
		if contextFacts[name] == 0 || !strings.Contains(text, "\n| `"+string(name)+"` |") {
			t.Errorf("no row or no fact for context.%s", name)
		}
	}
	if len(connect) != len(contextFacts) {
		t.Errorf("%d attributes of context, %d facts", len(connect), len(contextFacts))
	}
	for _, e := range entityTypes() {
		if !strings.Contains(text, "\n| `"+e+"::") {
			t.Errorf("no row for %s", e)
		}
	}
}
