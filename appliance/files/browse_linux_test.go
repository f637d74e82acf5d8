package files

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

func TestBrowse(t *testing.T) {
	g := newTarget(t)
	p := begin(t, g, "root")
	if p.ready["upload"] != false || p.ready["download"] != false || p.ready["home"].(map[string]any)["text"] != "/root" {
		t.Errorf("ready says %v", p.ready)
	}
	for i := range 1203 {
		g.write(t, nil, fmt.Sprintf("file-%04d", i))
	}
	all, truncated := p.list(g.dir)
	if len(all) != 1203 || truncated {
		t.Errorf("%d entries, truncated %v", len(all), truncated)
	}
	when := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := os.Mkdir(g.path("kinds"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := g.write(t, []byte("hello"), "kinds", "file")
	for _, err := range []error{
		os.Chtimes(file, when, when),
		os.Chmod(file, 0o640),
		os.Symlink("file", g.path("kinds", "link")),
		os.Symlink("../kinds", g.path("kinds", "up")),
		os.Symlink("nothing", g.path("kinds", "broken")),
		syscall.Mkfifo(g.path("kinds", "pipe"), 0o600),
		os.Mkdir(g.path("kinds", "folder"), 0o1777), os.Chmod(g.path("kinds", "folder"), 0o777|os.ModeSticky),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	all, _ = p.list(g.path("kinds"))
	got := map[string]string{}
	for _, e := range all {
		to := ""
		if l, ok := e["link"].(map[string]any); ok {
			to = " → " + l["text"].(string)
		}
		got[e["text"].(string)] = fmt.Sprint(e["kind"], " ", e["mode"], " ", e["size"], to)
	}
	for name, want := range map[string]string{
		"file": "file -rw-r----- 5", "link": "file -rw-r----- 5 → file", "up": "folder drwxr-xr-x 0 → ../kinds",
		"broken": "link lrwxrwxrwx 0 → nothing", "pipe": "other prw------- 0", "folder": "folder drwxrwxrwt 0",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, and not %q", name, got[name], want)
		}
	}
	e := p.must(request{Op: "stat", Path: []byte(g.path("kinds", "up", "link"))})
	if real := e["real"].(map[string]any)["text"]; real != file || e["entry"].(map[string]any)["kind"] != "file" {
		t.Errorf("stat: %v", e)
	}
	e = p.must(request{Op: "stat", Path: []byte(file)})
	if at := e["entry"].(map[string]any)["modified"]; at != float64(when.UnixMilli()) {
		t.Errorf("modified %v", at)
	}
	for _, r := range []request{
		{Op: "list", Path: []byte(g.path("nowhere"))},
		{Op: "list", Path: []byte(file)},
		{Op: "stat", Path: []byte(g.path("nowhere"))},
	} {
		if _, code := p.do(r); code != "E_FILE_UNKNOWN" {
			t.Errorf("%s %s: %q", r.Op, r.Path, code)
		}
	}
	if _, code := p.do(request{Op: "list", Path: []byte("a/..")}); code != "E_NAME" {
		t.Errorf("a path that is none: %q", code)
	}
	if _, code := p.do(request{Op: "format"}); code != "E_USAGE" {
		t.Errorf("a request that is none: %q", code)
	}
	if len(p.near.recorded()) != 0 {
		t.Error("looking is recorded")
	}
}
