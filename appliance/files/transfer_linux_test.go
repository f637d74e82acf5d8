package files

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestTransfer: files come and go as they are, with their times, and nobody sees half of one.
func TestTransfer(t *testing.T) {
	g := newTarget(t)
	p := begin(t, g, "root", "upload", "download")
	when := time.Date(2025, 12, 31, 23, 59, 58, 0, time.UTC)
	for _, size := range []int{0, 1, 32 << 10, window, window + 1, 9_000_001} {
		content := noise(size, 1)
		to := g.path(fmt.Sprint(size))
		a, code := p.upload(request{Op: "upload", Path: []byte(to), Size: int64(size), Modified: when.UnixMilli(), Clash: clashRefuse}, bytes.NewReader(content), 0)
		if code != "" || a["sha256"] != sumOf(content) || a["text"] != to {
			t.Fatalf("%d bytes: %v", size, a)
		}
		if !bytes.Equal(g.read(t, fmt.Sprint(size)), content) {
			t.Errorf("%d bytes are others", size)
		}
		info, err := os.Stat(to)
		if err != nil || !info.ModTime().Equal(when) || info.Mode() != 0o644 {
			t.Errorf("%v %v", info, err)
		}
		if got := p.near.recorded(); len(got) != 1 || got[0] != fmt.Sprintf("file.uploaded %s  map[clash:refuse sha256:%s size:%d]", to, sumOf(content), size) {
			t.Errorf("recorded %q", got)
		}
		if !bytes.Equal(p.fetch(to), content) {
			t.Errorf("%d bytes came back as others", size)
		}
		if got := p.near.recorded(); len(got) != 1 || got[0] != fmt.Sprintf("file.downloaded %s  map[sha256:%s size:%d]", to, sumOf(content), size) {
			t.Errorf("recorded %q", got)
		}
	}
	if names := g.names(t); len(names) != 6 {
		t.Errorf("parts are left: %q", names)
	}
	if got, want := p.fetch("/proc/version"), must(os.ReadFile("/proc/version")); !bytes.Equal(got, want) {
		t.Errorf("a file of the kernel: %q", got)
	}
	if err := syscall.Mkfifo(g.path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{g.path("pipe"), g.dir, "/dev/zero"} {
		if _, code := p.do(request{Op: "download", Path: []byte(at)}); code != "E_FILE_KIND" {
			t.Errorf("%s: %q", at, code)
		}
	}
	for _, at := range []string{g.path("pipe"), g.dir} {
		if _, code := p.do(request{Op: "upload", Path: []byte(at), Size: 1, Clash: clashReplace}); code != "E_FILE_KIND" {
			t.Errorf("over %s: %q", at, code)
		}
	}
	if err := os.Symlink("1", g.path("link")); err != nil {
		t.Fatal(err)
	}
	if got := p.fetch(g.path("link")); !bytes.Equal(got, noise(1, 1)) {
		t.Errorf("by a link: %x", got)
	}
}

// TestClash: whatever comes while an upload is on its way, nothing is lost that the person has not given up.
func TestClash(t *testing.T) {
	g := newTarget(t)
	p := begin(t, g, "root", "upload")
	mine := noise(300_000, 2)
	up := func(name, clash string) request {
		return request{Op: "upload", Path: []byte(g.path(name)), Size: int64(len(mine)), Modified: 1, Clash: clash}
	}
	g.write(t, []byte("theirs"), "a.txt")
	if _, code := p.do(up("a.txt", clashRefuse)); code != "E_FILE_EXISTS" {
		t.Errorf("refuse: %q", code)
	}
	// It comes while the bytes do.
	e := p.ask(up("b.txt", clashRefuse))
	e.answer()
	g.write(t, []byte("theirs"), "b.txt")
	send := func(e *exchange) {
		for at := 0; at < len(mine); at += 100_000 {
			if err := p.write(appendData(nil, e.id, int64(at), mine[at:at+100_000])); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(e)
	if _, code := e.answer(); code != "E_FILE_EXISTS" || string(g.read(t, "b.txt")) != "theirs" {
		t.Errorf("refuse at the end: %q", code)
	}
	// The bytes are there, and another clash is all that it needs.
	if err := os.Chmod(g.path("b.txt"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(g.path("b.txt"), 1, 1); err != nil {
		t.Fatal(err)
	}
	e = p.ask(up("b.txt", clashReplace))
	a, _ := e.answer()
	if a["offset"] != float64(len(mine)) || a["sha256"] != sumOf(mine) {
		t.Fatalf("what is there: %v", a)
	}
	if err := p.write(appendData(nil, e.id, int64(len(mine)), nil)); err != nil {
		t.Fatal(err)
	}
	if a, code := e.answer(); code != "" || !bytes.Equal(g.read(t, "b.txt"), mine) {
		t.Errorf("replace: %v", a)
	}
	info, err := os.Stat(g.path("b.txt"))
	if st := info.Sys().(*syscall.Stat_t); err != nil || info.Mode() != 0o600 || st.Uid != 1 || st.Gid != 1 {
		t.Errorf("who may read it has changed: %v of %d", info.Mode(), st.Uid)
	}
	// keep finds the first name that is free, also if that is taken meanwhile.
	e = p.ask(up("a.txt", clashKeep))
	e.answer()
	g.write(t, []byte("theirs"), "a (2).txt")
	send(e)
	if a, code := e.answer(); code != "" || a["text"] != g.path("a (3).txt") || !bytes.Equal(g.read(t, "a (3).txt"), mine) {
		t.Errorf("keep: %v", a)
	}
	for _, name := range []string{"a.txt", "a (2).txt"} {
		if string(g.read(t, name)) != "theirs" {
			t.Errorf("%s was lost", name)
		}
	}
	// Over a link it is the link that goes.
	if err := os.Symlink("a.txt", g.path("link")); err != nil {
		t.Fatal(err)
	}
	if a, code := p.upload(up("link", clashReplace), bytes.NewReader(mine), 0); code != "" || string(g.read(t, "a.txt")) != "theirs" || !bytes.Equal(g.read(t, "link"), mine) {
		t.Errorf("over a link: %v", a)
	}
	if names := g.names(t); len(names) != 5 {
		t.Errorf("parts are left: %q", names)
	}
	// Two files on their way to one place are one too many.
	p.ask(up("c", clashRefuse)).answer()
	other := up("c", clashRefuse)
	other.Modified++
	if _, code := p.do(other); code != "E_LIMIT" {
		t.Errorf("twice: %q", code)
	}
}

// TestSeveral: four transfers at once do not hold each other up for good, one of them without credit.
func TestSeveral(t *testing.T) {
	g := newTarget(t)
	p := begin(t, g, "root", "upload", "download")
	content := noise(6<<20, 10)
	g.write(t, content, "f")
	stalled := p.ask(request{Op: "download", Path: []byte(g.path("f"))})
	stalled.answer()
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			a, code := p.upload(request{Op: "upload", Path: []byte(g.path(fmt.Sprint("u", i))), Size: int64(len(content)), Clash: clashRefuse}, bytes.NewReader(content), 0)
			if code != "" {
				t.Errorf("upload: %v %s", a, code)
			}
		})
	}
	wg.Go(func() {
		var b bytes.Buffer
		if a, code := p.download(request{Op: "download", Path: []byte(g.path("f"))}, &b, 0); code != "" || !bytes.Equal(b.Bytes(), content) {
			t.Errorf("download: %v %s", a, code)
		}
	})
	wg.Wait()
	p.cancel(stalled.id, false)
}
