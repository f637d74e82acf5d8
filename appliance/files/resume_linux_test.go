package files

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/frame"
)

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

// TestAgain: who loads the page again chooses the same file once more, and goes on, while the appliance still holds what the page
// of before had open. Another file does not take the place of one that is on its way.
func TestAgain(t *testing.T) {
	g := newTarget(t)
	g.transfers = new(Transfers)
	const size = 8 << 20
	content := noise(size, 8)
	up := request{Op: "upload", Path: []byte(g.path("f")), Size: size, Clash: clashRefuse}
	before := begin(t, g, "root", "upload")
	if a, code := before.upload(up, bytes.NewReader(content), size/2); code != "" {
		t.Fatal(a)
	}
	p := begin(t, g, "root", "upload")
	other := up
	other.Size++
	if a, code := p.do(other); code != "E_LIMIT" {
		t.Errorf("another file: %v", a)
	}
	a, code := p.upload(up, bytes.NewReader(content), 0)
	if code != "" || a["sha256"] != sumOf(content) || !bytes.Equal(g.read(t, "f"), content) || len(g.names(t)) != 1 {
		t.Fatalf("went on: %v", a)
	}
	if got := p.near.recorded(); len(got) != 1 || !strings.Contains(got[0], "from:") {
		t.Errorf("recorded %q", got)
	}
	if got := before.near.recorded(); len(got) != 1 || !strings.Contains(got[0], " E_SUPERSEDED ") {
		t.Errorf("the one before recorded %q", got)
	}
	before.must(request{Op: "stat", Path: []byte(g.path("f"))})
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
