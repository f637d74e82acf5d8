package terminal

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func filtered(may bool, pieces ...string) (out, clipboard string) {
	f := newFilter(func(b []byte) bool { clipboard += string(b) + "|"; return may })
	for _, p := range pieces {
		out += string(f.pass([]byte(p)))
	}
	return out, clipboard
}

// bytesOf is s cut between all bytes.
func bytesOf(s string) (pieces []string) {
	for i := range len(s) {
		pieces = append(pieces, s[i:i+1])
	}
	return pieces
}

func TestFilter(t *testing.T) {
	const st = "\x1b\\"
	for in, want := range map[string]string{
		"plain ä€😀\r\n":                             "plain ä€😀\r\n",
		"\x1b[1;31mred\x1b[0m\x1b[?1049h":           "\x1b[1;31mred\x1b[0m\x1b[?1049h",
		"\x1b]0;title\x07x":                         "\x1b]0;title\x07x",
		"\x1b]8;;http://a/\x1b\\link\x1b]8;;" + st:  "\x1b]8;;http://a/\x1b\\link\x1b]8;;" + st,
		"a\x1b]52;c;aGk=\x07b":                      "ab",
		"a\x1b]52;c;aGk=" + st + "b":                "ab",
		"a\x1b]0052;c;aGk=\x07b":                    "ab",
		"a\x1b]5\x002;c;aGk=\x07b":                  "a\x00b",
		"a\x1b\x00]52;c;aGk=\x07b":                  "a\x00b",
		"a\x1b\x7f]52;c;aGk=\x07b":                  "ab",
		"a\u009d52;c;aGk=\u009cb":                   "a52;c;aGk=b",
		"a\x9d52;c;aGk=\x07b":                       "a\ufffd52;c;aGk=\x07b",
		"\xc2\x1b]52;c;aGk=\x07\x9d52;c;aA==":       "\ufffd\ufffd52;c;aA==",
		"a\x1bä]52;c;aGk=\x07b":                     "aä]52;c;aGk=\x07b",
		"a\x1b]Lodd\x07b":                           "ab",
		"a\x1b]52;c;?\x07b":                         "ab",
		"x\x1b[2147483647b":                         "x",
		"x\x1b[65535Sy":                             "x\x1b[65535Sy",
		"x\x1b[1;99999999Ty":                        "xy",
		"x\x1b[21ty\x1b[14t":                        "xy\x1b[14t",
		"x\x1b[" + strings.Repeat("1;", 200) + "my": "xy",
		"a\x1b]0;t\x1b]52;c;aGk=\x07b":              "a\x1b]0;tb",
		"\x1bP$q\x1b]52;c;aGk=\x07" + st:            "\x1bP$q" + st,
	} {
		if got, _ := filtered(false, in); got != want {
			t.Errorf("%q passes as %q, want %q", in, got, want)
		}
		if got, _ := filtered(false, bytesOf(in)...); got != want {
			t.Errorf("%q passes in pieces as %q, want %q", in, got, want)
		}
	}
	if out, clipboard := filtered(true, "a\x1b]52;p;aG", "k=\x1b", "\\b"); out != "a\x1b]52;c;aGk=\x07b" || clipboard != "hi|" {
		t.Errorf("%q, %q", out, clipboard)
	}
	if out, clipboard := filtered(true, "a\x1b]52;c;"+strings.Repeat("A", 2<<20)+"\x07b"); out != "ab" || clipboard != "" {
		t.Errorf("%.20q, %.20q", out, clipboard)
	}
}

// FuzzFilter: cuts change nothing, what passes is UTF-8 without C1 controls, passes again as it is, and sets no clipboard.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{"\x1b]52;c;aGk=\x07", "\x1b[1m\x1b]0;ä\x1b\\", "\xc2\x9d52;c;aA==\x07", "\x1bP1$r\x1b\\", "\x1b]\x1b]52;;aA==\x18"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		cut = max(0, min(cut, len(b)))
		whole, _ := filtered(false, string(b))
		cuts, _ := filtered(false, string(b[:cut]), string(b[cut:]))
		if whole != cuts {
			t.Fatalf("%q passes as %q, cut as %q", b, whole, cuts)
		}
		if !utf8.ValidString(whole) {
			t.Fatalf("%q passes as %q", b, whole)
		}
		for _, r := range whole {
			if r >= 0x80 && r < 0xa0 {
				t.Fatalf("%q passes as %q", b, whole)
			}
		}
		again, asked := filtered(true, whole)
		if asked != "" || bytes.Contains([]byte(again), []byte("\x1b]52;")) {
			t.Fatalf("%q passes as %q, which sets the clipboard to %q", b, whole, asked)
		}
	})
}
