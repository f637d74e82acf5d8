package auth

import (
	"regexp"
	"strings"
	"testing"
)

func TestCodesAreReadable(t *testing.T) {
	form := regexp.MustCompile(`^([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}$`)
	seen := make(map[string]bool)
	for range 1000 {
		text, want := RandomCode()
		if !form.MatchString(text) || seen[text] {
			t.Fatalf("%q", text)
		}
		seen[text] = true
		for what, typed := range map[string]string{
			"as shown":        text,
			"lower case":      strings.ToLower(text),
			"without dashes":  strings.ReplaceAll(text, "-", ""),
			"with spaces":     " " + strings.ReplaceAll(text, "-", " ") + "\r\n",
			"O for 0":         strings.ReplaceAll(text, "0", "O"),
			"o for 0":         strings.ReplaceAll(text, "0", "o"),
			"I for 1":         strings.ReplaceAll(text, "1", "I"),
			"a small L for 1": strings.ReplaceAll(text, "1", "l"),
		} {
			if got, ok := HashCode(typed); !ok || got != want {
				t.Fatalf("%s: %q is not %q", what, typed, text)
			}
		}
	}
}

func TestWhatIsNoCode(t *testing.T) {
	text, _ := RandomCode()
	for _, typed := range []string{"", "-", text[:len(text)-1], text + "0", "U" + text[1:], "é" + text[1:], strings.Repeat("-", 1000) + text} {
		if _, ok := HashCode(typed); ok {
			t.Errorf("%q is taken for a code", typed)
		}
	}
}
