package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// JSON keeps what others wrote, and does nothing to the terminal that it is shown on.
func TestJSONIsHarmless(t *testing.T) {
	name := "a\x1b[2J\u009b2J\u007f\u202egnp.exe\u2066\u2069\u200f\u061c ü 漢\n"
	for _, indent := range []string{"", "  "} {
		var b strings.Builder
		if err := writeJSON(&b, map[string]string{name: name}, indent); err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(b.String(), "\x1b\u009b\u007f\u202e\u2066\u2069\u200f\u061c") || !strings.Contains(b.String(), "ü 漢") {
			t.Errorf("got %q", b.String())
		}
		var back map[string]string
		if err := json.Unmarshal([]byte(b.String()), &back); err != nil || back[name] != name {
			t.Errorf("%q reads as %q, %v", b.String(), back, err)
		}
	}
}
