package policy

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

func readDocs(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/access.md")
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
		if _, err := Parse("access.yaml", []byte(block[1]), fakes); err != nil {
			t.Errorf("%s\n%v", block[1], err)
		}
	}
}

func TestDocsHaveEveryKeyAndCode(t *testing.T) {
	text := readDocs(t)
	for _, keys := range Keys() {
		for _, key := range keys {
			if !strings.Contains(text, "\n| `"+key+"` |") {
				t.Errorf("docs/access.md has no row for %s", key)
			}
		}
	}
	for _, code := range []string{CodeTargetUnknown, CodeDenied, CodePortDenied, CodePort, CodeName, CodeAddressMode, CodeForbiddenAddress} {
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
