package files

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/frame"
)

// noise is n bytes that nothing else has.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

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

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
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
	// Two uploads of a file to one place are one too many.
	p.ask(up("c", clashRefuse)).answer()
	if _, code := p.do(up("c", clashRefuse)); code != "E_LIMIT" {
		t.Errorf("twice: %q", code)
	}
}

// TestGoOn: what was interrupted at the half goes on there, in both directions, and not if the other half has changed.
func TestGoOn(t *testing.T) {
	g := newTarget(t)
	const size = 8 << 20
	content := noise(size, 3)
	up := request{Op: "upload", Path: []byte(g.path("up")), Size: size, Modified: 1_700_000_000_000, Clash: clashRefuse}
	part := func() string {
		all, _ := filepath.Glob(g.path("up.part-*"))
		if len(all) != 1 {
			t.Fatalf("parts: %q", all)
		}
		return all[0]
	}
	p := begin(t, g, "root", "upload")
	if _, code := p.upload(up, bytes.NewReader(content), size/2); code != "" {
		t.Fatal(code)
	}
	p.leave()
	if got := p.near.recorded(); len(got) != 1 || !strings.Contains(got[0], " "+string(frame.Lost)+" ") {
		t.Errorf("recorded %q", got)
	}
	if got := must(os.ReadFile(part())); len(got) < size/2-2*window || !bytes.Equal(got, content[:len(got)]) {
		t.Fatalf("the part has %d bytes", len(got))
	}
	p = begin(t, g, "root", "upload", "download")
	e := p.ask(up)
	if a, _ := e.answer(); a["offset"].(float64) == 0 || a["sha256"] != sumOf(content[:int(a["offset"].(float64))]) {
		t.Errorf("what is there: %v", a)
	}
	p.cancel(e.id, true)
	if _, code := e.answer(); code != "E_CANCELLED" {
		t.Errorf("cancelled: %q", code)
	}
	p.near.recorded()
	a, code := p.upload(up, bytes.NewReader(content), 0)
	if code != "" || a["sha256"] != sumOf(content) || !bytes.Equal(g.read(t, "up"), content) {
		t.Fatalf("went on: %v", a)
	}
	if got := p.near.recorded(); len(got) != 1 || !strings.Contains(got[0], "from:") {
		t.Errorf("recorded %q", got)
	}

	var half bytes.Buffer
	down := request{Op: "download", Path: []byte(g.path("up"))}
	if _, code := p.download(down, &half, size/2); code != "" {
		t.Fatal(code)
	}
	p.leave()
	if got := p.near.recorded(); len(got) != 1 || !strings.Contains(got[0], " "+string(frame.Lost)+" ") {
		t.Errorf("recorded %q", got)
	}
	p = begin(t, g, "root", "download")
	down.From, down.SHA256 = int64(half.Len()), sumOf(half.Bytes())
	before := half.Len()
	a, code = p.download(down, &half, 0)
	if code != "" || a["sha256"] != sumOf(content) || !bytes.Equal(half.Bytes(), content) || before > size/2+window {
		t.Fatalf("went on at %d: %v", before, a)
	}
	down.From, down.SHA256 = size, sumOf(content)
	if a, code = p.download(down, io.Discard, 0); code != "" || a["sha256"] != sumOf(content) {
		t.Errorf("nothing was missing: %v", a)
	}
	g.write(t, noise(size, 4), "up")
	for _, from := range []int64{1, size, size + 1} {
		down.From = from
		if _, code := p.download(down, io.Discard, 0); code != "E_FILE_CHANGED" {
			t.Errorf("what has changed, from %d: %q", from, code)
		}
	}
}

// TestAnew: a person whose file does not begin as the part does sends it whole.
func TestAnew(t *testing.T) {
	g := newTarget(t)
	p := begin(t, g, "root", "upload")
	one, other := noise(3<<20, 5), noise(3<<20, 6)
	up := request{Op: "upload", Path: []byte(g.path("f")), Size: 3 << 20, Clash: clashRefuse}
	a, code := p.upload(up, bytes.NewReader(one), 2<<20)
	if code != "" {
		t.Fatal(code)
	}
	p.cancel(uint32(a["id"].(float64)), true)
	p.leave()
	if names := g.names(t); len(names) != 1 || names[0] == "f" {
		t.Fatalf("there are %q", names)
	}
	p = begin(t, g, "root", "upload")
	p.anew = true
	if a, code := p.upload(up, bytes.NewReader(other), 0); code != "" || a["sha256"] != sumOf(other) || !bytes.Equal(g.read(t, "f"), other) || len(g.names(t)) != 1 {
		t.Errorf("anew: %v", a)
	}
}

// TestCancel: a cancelled transfer ends soon, and its part stays or goes as the person says.
func TestCancel(t *testing.T) {
	g := newTarget(t)
	p := begin(t, g, "root", "upload", "download")
	content := noise(8<<20, 7)
	for _, keep := range []bool{true, false} {
		up := request{Op: "upload", Path: []byte(g.path("f")), Size: 8 << 20, Clash: clashRefuse}
		a, code := p.upload(up, bytes.NewReader(content), 4<<20)
		if code != "" {
			t.Fatal(a)
		}
		id := uint32(a["id"].(float64))
		p.cancel(id, keep)
		if _, code := (&exchange{p, id, p.waits[id]}).answer(); code != "E_CANCELLED" {
			t.Errorf("cancelled: %q", code)
		}
		if names := g.names(t); (len(names) == 1) != keep {
			t.Errorf("keep %v: there are %q", keep, names)
		}
	}
	g.write(t, content, "g")
	e := p.ask(request{Op: "download", Path: []byte(g.path("g"))})
	e.answer()
	p.cancel(e.id, true)
	if _, code := e.answer(); code != "E_CANCELLED" {
		t.Errorf("download: %q", code)
	}
	p.cancel(e.id, true) // is late
	p.must(request{Op: "stat", Path: []byte(g.dir)})
}

// TestLimits: no more is under way at once than the package says, and what is beyond the rules ends the flow.
func TestLimits(t *testing.T) {
	g := newTarget(t)
	g.write(t, noise(4<<20, 8), "f")
	get := request{Op: "download", Path: []byte(g.path("f"))}
	p := begin(t, g, "root", "download", "upload")
	for range maxTransfers {
		p.ask(get).answer()
	}
	if _, code := p.do(get); code != "E_LIMIT" {
		t.Errorf("a transfer too many: %q", code)
	}
	p.must(request{Op: "stat", Path: []byte(g.dir)})
	for name, break_ := range map[string]func(p *person) []byte{
		"an id twice": func(p *person) []byte {
			p.ask(get).answer()
			b, _ := appendJSON(nil, kindRequest, request{ID: 1, Op: "stat", Path: []byte("/")})
			return b
		},
		"beyond credit": func(p *person) []byte {
			p.ask(request{Op: "upload", Path: []byte(g.path("u")), Size: 8 << 20, Clash: clashRefuse})
			p.write(appendData(nil, 1, 0, nil))
			return bytes.Repeat(appendData(nil, 1, 0, make([]byte, 200<<10)), 1)
		},
		"credit for an upload": func(p *person) []byte {
			p.ask(request{Op: "upload", Path: []byte(g.path("v")), Size: 8 << 20, Clash: clashRefuse}).answer()
			return appendCredit(nil, 1, 7)
		},
		"nonsense": func(*person) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") },
	} {
		p := begin(t, g, "root", "download", "upload")
		p.write(break_(p))
		select {
		case <-p.over:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: the flow goes on", name)
		}
		if c := code(p.leave()); c != frame.FrameBad && c != frame.Credit || code(p.near.end) != c {
			t.Errorf("%s: %q", name, c)
		}
	}
}

// TestLimitOfPerson: a person has so many transfers on all sides together, and may begin another when one is over.
func TestLimitOfPerson(t *testing.T) {
	g := newTarget(t)
	g.transfers = new(Transfers)
	g.write(t, noise(4<<20, 8), "f")
	get := request{Op: "download", Path: []byte(g.path("f"))}
	var under []*exchange
	for range maxOfPerson / maxTransfers {
		p := begin(t, g, "root", "download")
		for range maxTransfers {
			e := p.ask(get)
			if _, code := e.answer(); code != "" {
				t.Fatal(code)
			}
			under = append(under, e)
		}
	}
	p := begin(t, g, "root", "download")
	if a, code := p.do(get); code != "E_LIMIT" {
		t.Errorf("one too many: %v", a)
	}
	p.must(request{Op: "stat", Path: []byte(g.dir)})
	if !g.transfers.enter("bob") {
		t.Error("another person is counted with them")
	}
	under[0].p.cancel(under[0].id, false)
	if _, code := under[0].answer(); code != "E_CANCELLED" {
		t.Errorf("cancelled: %q", code)
	}
	if a, code := p.do(get); code != "" {
		t.Errorf("in the place of another: %v", a)
	}
}

// TestFailures: who may not, what has no room, and a server without SFTP are sentences that say what to do.
func TestFailures(t *testing.T) {
	g := newTarget(t)
	secret := g.write(t, []byte("x"), "secret")
	if err := os.Chmod(secret, 0o600); err != nil {
		t.Fatal(err)
	}
	p := begin(t, g, "nobody", "upload", "download")
	for _, r := range []request{
		{Op: "download", Path: []byte(secret)},
		{Op: "list", Path: []byte("/root")},
		{Op: "mkdir", Path: []byte("/etc/x")},
		{Op: "remove", Path: []byte("/etc/passwd")},
		{Op: "rename", Path: []byte("/etc/passwd"), To: []byte("/etc/x")},
	} {
		if _, code := p.do(r); code != "E_FILE_ACCESS" {
			t.Errorf("%s %s: %q", r.Op, r.Path, code)
		}
	}
	if _, code := p.upload(request{Op: "upload", Path: []byte("/etc/x"), Size: 1, Clash: clashRefuse}, strings.NewReader("x"), 0); code != "E_FILE_ACCESS" {
		t.Errorf("upload: %q", code)
	}

	small := g.path("small")
	if err := os.Mkdir(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(small, unix.MNT_DETACH)
	p = begin(t, g, "root", "upload")
	if _, code := p.do(request{Op: "upload", Path: []byte(g.path("small", "f")), Size: 5 << 20, Clash: clashRefuse}); code != "E_FILE_SPACE" {
		t.Errorf("no room: %q", code)
	}
	e := p.ask(request{Op: "upload", Path: []byte(g.path("small", "f")), Size: 3 << 20, Clash: clashRefuse})
	e.answer()
	g.write(t, make([]byte, 3<<20+900<<10), "small", "other")
	at := int64(0)
	for limit, end := int64(window), false; !end; {
		for ; at < 3<<20 && at < limit; at += 64 << 10 {
			p.write(appendData(nil, e.id, at, make([]byte, 64<<10)))
		}
		r, err := e.receive()
		if err != nil {
			t.Fatal(err)
		}
		switch r.kind {
		case kindCredit:
			limit = r.offset
		case kindRequest:
			if code := codeIn(r.json); code != "E_FILE_SPACE" {
				t.Errorf("the room has gone: %v", r.json)
			}
			end = true
		}
	}

	p = serve(t, newServer(t, ""), "root", "upload")
	<-p.over
	if err := p.leave(); code(err) != "E_REFUSED" || code(p.near.end) != "E_REFUSED" {
		t.Errorf("without SFTP: %v", err)
	}
}

// TestGone: when the connection to the target ends, so does the flow, and says so.
func TestGone(t *testing.T) {
	g := newTarget(t)
	p := begin(t, g, "root", "upload")
	if _, code := p.upload(request{Op: "upload", Path: []byte(g.path("f")), Size: 8 << 20, Clash: clashRefuse}, bytes.NewReader(noise(8<<20, 9)), 4<<20); code != "" {
		t.Fatal(code)
	}
	p.client.Close()
	select {
	case <-p.over:
	case <-time.After(20 * time.Second):
		t.Fatal("the flow goes on")
	}
	if err := p.leave(); code(err) != "E_TARGET_RESET" || code(p.near.end) != "E_TARGET_RESET" {
		t.Errorf("%v", err)
	}
	if got := p.near.recorded(); len(got) != 1 || !strings.Contains(got[0], "E_TARGET_RESET") {
		t.Errorf("recorded %q", got)
	}
}

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
