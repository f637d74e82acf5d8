package policy

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
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
