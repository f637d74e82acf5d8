package files

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestHostileNames: whatever a target calls its files, they are listed as one line each, fetched, renamed and removed.
func TestHostileNames(t *testing.T) {
	g := newTarget(t)
	p := begin(t, g, "root", "upload", "download")
	names := []string{"-rf", "--help", "~", " ", "a\nb", "a\r", "\x1b]0;x\x07", "\x7f", "a\tb", "a\u202egpj.exe", "\u2066x", "caf\xe9", "\xff\xfe", "\xed\xa0\x80", "\xf0\x9f", "<script>alert(1)<script>",
		"\"><img src=x>", "${HOME}", "$(id)", "`id`", "a;b", "a|b", "*", "?", "[a]", "{a,b}", "\\", "\\x1b", "C:\\a", "CON", "a:b", "...", ".hidden", "a'b", `a"b`, "%00", "%2e%2e%2f", "&amp;", "\u200b", "\u2028", "\ufeff", "日本",
		strings.Repeat("x", 255), strings.Repeat("é", 127), strings.Repeat("\x01", 255)}
	random := rand.New(rand.NewPCG(1, 2))
	for len(names) < 110 {
		b := make([]byte, 1+random.IntN(40))
		for i := range b {
			for b[i] == 0 || b[i] == '/' {
				b[i] = byte(random.Uint32())
			}
		}
		names = append(names, string(b))
	}
	for i, name := range names {
		g.write(t, fmt.Appendf(nil, "%d", i), name)
	}
	all, _ := p.list(g.dir)
	byName := map[string]string{}
	for _, e := range all {
		raw, err := base64.StdEncoding.DecodeString(e["name"].(string))
		if err != nil {
			t.Fatal(err)
		}
		byName[string(raw)] = e["text"].(string)
	}
	for i, name := range names {
		text, ok := byName[name]
		if !ok || strings.ContainsFunc(text, hidden) {
			t.Errorf("%q is listed as %q", name, text)
		}
		at := g.path() + "/" + name
		if got := p.fetch(at); string(got) != fmt.Sprint(i) {
			t.Errorf("%q: %q", name, got)
		}
		to := []byte(g.path("plain"))
		p.must(request{Op: "rename", Path: []byte(at), To: to})
		if _, code := p.do(request{Op: "rename", Path: to, To: []byte(at)}); code != "" && code != "E_NAME" {
			t.Errorf("%q: %s", name, code)
		} else if code == "E_NAME" {
			at = string(to)
		}
		p.must(request{Op: "remove", Path: []byte(at)})
	}
	if left := g.names(t); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	for _, e := range p.near.recorded() {
		if strings.ContainsFunc(e, func(r rune) bool { return hidden(r) }) {
			t.Errorf("recorded %q", e)
		}
	}
}
