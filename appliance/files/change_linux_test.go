package files

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestDenied: what policy does not grant is not done, and not begun.
func TestDenied(t *testing.T) {
	g := newTarget(t)
	file := []byte(g.write(t, []byte("x"), "file"))
	other := []byte(g.path("other"))
	changes := []request{
		{Op: "mkdir", Path: other}, {Op: "rename", Path: file, To: other}, {Op: "rename", Path: file, To: other, Replace: true}, {Op: "remove", Path: file},
		{Op: "upload", Path: other, Size: 1, Clash: clashRefuse},
	}
	p := begin(t, g, "root", "download")
	for _, r := range changes {
		if _, code := p.do(r); code != "E_DENIED" {
			t.Errorf("%s: %q", r.Op, code)
		}
		if got := p.near.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], events[r.Op]+" ") || !strings.Contains(got[0], "E_DENIED") {
			t.Errorf("%s is recorded as %q", r.Op, got)
		}
	}
	if got := p.fetch(string(file)); string(got) != "x" {
		t.Errorf("downloaded %q", got)
	}
	p = begin(t, g, "root", "upload")
	if _, code := p.do(request{Op: "download", Path: file}); code != "E_DENIED" {
		t.Errorf("download: %q", code)
	}
	if names := g.names(t); len(names) != 1 {
		t.Errorf("there are %q", names)
	}
}

func TestChange(t *testing.T) {
	g := newTarget(t)
	p := begin(t, g, "root", "upload")
	at := func(names ...string) []byte { return []byte(g.path(names...)) }
	p.must(request{Op: "mkdir", Path: at("d")})
	if _, code := p.do(request{Op: "mkdir", Path: at("d")}); code != "E_FILE_EXISTS" {
		t.Errorf("a folder twice: %q", code)
	}
	p.must(request{Op: "mkdir", Path: at("d"), Existing: true})
	g.write(t, []byte("f"), "f")
	g.write(t, []byte("h"), "h")
	if _, code := p.do(request{Op: "mkdir", Path: at("f"), Existing: true}); code != "E_FILE_EXISTS" {
		t.Errorf("a folder where a file is: %q", code)
	}
	if _, code := p.do(request{Op: "mkdir", Path: at("no", "d")}); code != "E_FILE_UNKNOWN" {
		t.Errorf("a folder in none: %q", code)
	}
	p.near.recorded()

	p.must(request{Op: "rename", Path: at("f"), To: at("d", "g")})
	if _, code := p.do(request{Op: "rename", Path: at("h"), To: at("d", "g")}); code != "E_FILE_EXISTS" || string(g.read(t, "d", "g")) != "f" {
		t.Errorf("a name that is taken: %q", code)
	}
	if _, code := p.do(request{Op: "rename", Path: at("h"), To: at("d"), Replace: true}); code != "E_FILE_KIND" {
		t.Errorf("a file over a folder: %q", code)
	}
	p.must(request{Op: "rename", Path: at("h"), To: at("d", "g"), Replace: true})
	if got := string(g.read(t, "d", "g")); got != "h" {
		t.Errorf("%q was not replaced", got)
	}
	if _, code := p.do(request{Op: "rename", Path: at("h"), To: at("i")}); code != "E_FILE_UNKNOWN" {
		t.Errorf("what is not there: %q", code)
	}
	want := []string{
		"file.renamed " + g.path("f") + "  map[to:" + g.path("d", "g") + "]",
		"file.renamed " + g.path("h") + "  map[to:" + g.path("d", "g") + "]",
		"file.renamed " + g.path("h") + " E_FILE_EXISTS map[to:" + g.path("d", "g") + "]",
		"file.renamed " + g.path("h") + "  map[replace:true to:" + g.path("d") + "]",
		"file.renamed " + g.path("h") + " E_FILE_KIND map[replace:true to:" + g.path("d") + "]",
		"file.renamed " + g.path("h") + "  map[replace:true to:" + g.path("d", "g") + "]",
	}
	if got := p.near.recorded(); !slices.Equal(got, want) {
		t.Errorf("recorded:\n%s\nand not:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	// What cannot be written down is not done.
	p.near.mu.Lock()
	p.near.deaf = true
	p.near.mu.Unlock()
	for _, r := range []request{{Op: "mkdir", Path: at("e")}, {Op: "rename", Path: at("d", "g"), To: at("e")}, {Op: "remove", Path: at("d", "g")}} {
		if _, code := p.do(r); code != "E_AUDIT" {
			t.Errorf("%s: %q", r.Op, code)
		}
	}
	if _, code := p.upload(request{Op: "upload", Path: at("e"), Size: 1, Clash: clashRefuse}, bytes.NewReader([]byte("x")), 0); code != "E_AUDIT" {
		t.Errorf("upload: %q", code)
	}
	if _, err := os.Lstat(g.path("e")); err == nil || len(g.names(t, "d")) != 1 {
		t.Error("something was done")
	}
}

// TestRemove: a folder goes with all that is in it, and what links in it lead to stays.
func TestRemove(t *testing.T) {
	g := newTarget(t)
	p := begin(t, g, "root", "upload")
	outside := g.write(t, []byte("stay"), "outside")
	for i := range 3 {
		if err := os.MkdirAll(g.path("d", fmt.Sprint(i), "deep", "er"), 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range 300 {
			g.write(t, nil, "d", fmt.Sprint(i), fmt.Sprint(j))
		}
		if err := os.Symlink(outside, g.path("d", fmt.Sprint(i), "link")); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(g.dir, g.path("d", fmt.Sprint(i), "folder")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(g.path("d"), g.path("tod")); err != nil {
		t.Fatal(err)
	}
	if _, code := p.do(request{Op: "remove", Path: []byte(g.path("d"))}); code != "E_FILE_EXISTS" {
		t.Errorf("a folder that is not empty: %q", code)
	}
	p.must(request{Op: "remove", Path: []byte(g.path("tod")), Recursive: true})
	if got := len(g.names(t, "d", "1")); got != 303 {
		t.Fatalf("a link was followed: %d are left", got)
	}
	p.near.recorded()
	p.must(request{Op: "remove", Path: []byte(g.path("d")), Recursive: true})
	if names := g.names(t); !slices.Equal(names, []string{"outside"}) {
		t.Errorf("there are %q", names)
	}
	if got := p.near.recorded(); len(got) != 1 || got[0] != "file.removed "+g.path("d")+"  map[recursive:true]" {
		t.Errorf("recorded %q", got)
	}
	if _, code := p.do(request{Op: "remove", Path: []byte(g.path("d"))}); code != "E_FILE_UNKNOWN" {
		t.Errorf("what is not there: %q", code)
	}
	if _, code := p.do(request{Op: "remove", Path: []byte("/"), Recursive: true}); code != "E_NAME" {
		t.Errorf("all: %q", code)
	}
	deep := g.path("deep")
	if err := os.MkdirAll(deep+strings.Repeat("/d", maxDepth+1), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, code := p.do(request{Op: "remove", Path: []byte(deep), Recursive: true}); code != "E_LIMIT" {
		t.Errorf("too deep: %q", code)
	}
	if err := os.Mkdir(g.path("empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.must(request{Op: "remove", Path: []byte(g.path("empty"))})
}
