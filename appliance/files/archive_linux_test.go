package files

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// archiveOf is a whole folder, and its last answer.
func (p *person) archiveOf(at string) ([]byte, map[string]any) {
	p.t.Helper()
	var b bytes.Buffer
	a, code := p.download(request{Op: "archive", Path: []byte(at)}, &b, 0)
	if code != "" || a["sha256"] != sumOf(b.Bytes()) || a["size"] != float64(b.Len()) {
		p.t.Fatalf("the archive of %q, %d bytes: %s %v", at, b.Len(), code, a)
	}
	return b.Bytes(), a
}

// inside are the names in an archive, and what is in each file.
func inside(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, f := range r.File {
		if !filepath.IsLocal(f.Name) || strings.ContainsFunc(f.Name, hidden) || strings.ContainsAny(f.Name, `\:*?"<>|`) || all[f.Name] != "" {
			t.Errorf("the archive has %q", f.Name)
		}
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Errorf("%q: %v", f.Name, err)
		}
		all[f.Name] = string(content)
	}
	return all
}

// TestArchive: a folder comes whole, with what is in it as it is, and unpacks to nothing but what it was.
func TestArchive(t *testing.T) {
	g := newTarget(t)
	p := begin(t, g, "nobody", "download")
	when := time.Date(2024, 5, 6, 7, 8, 10, 0, time.UTC)
	for _, dir := range []string{"f", "f/empty", "f/a", "f/a/b", "f/closed"} {
		if err := os.Mkdir(g.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	big := noise(3<<20+7, 12)
	run := g.write(t, big, "f", "a", "b", "run.sh")
	g.write(t, nil, "f", "nothing")
	secret := g.write(t, []byte("x"), "f", "secret")
	for name, content := range map[string]string{"..\\..\\evil": "1", "C:evil": "2", "a\nb": "3", "NUL.txt": "4", "dots..": "5", "C_evil": "6", "caf\xe9": "7", "-rf": "8"} {
		g.write(t, []byte(content), "f", name)
	}
	for _, err := range []error{
		os.Chmod(run, 0o750), os.Chmod(secret, 0o600), os.Chmod(g.path("f", "closed"), 0o700), os.Chown(run, 65534, 65534), os.Chtimes(run, when, when),
		os.Symlink("/etc/passwd", g.path("f", "link")), os.Symlink("..", g.path("f", "up")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	archive, last := p.archiveOf(g.path("f"))
	got := inside(t, archive)
	want := map[string]string{"f/": "", "f/empty/": "", "f/a/": "", "f/a/b/": "", "f/a/b/run.sh": string(big), "f/nothing": "",
		"f/.._.._evil": "1", "f/C_evil": "2", "f/a_x0ab": "3", "f/_NUL.txt": "4", "f/dots__": "5", "f/C_evil (2)": "6", "f/caf_xe9": "7", "f/-rf": "8"}
	for name, content := range want {
		if have, ok := got[name]; !ok || have != content {
			t.Errorf("%q: %.40q, and not %.40q", name, have, content)
		}
	}
	if len(got) != len(want) {
		t.Errorf("there are %d names in it", len(got))
	}
	if o, _ := last["omitted"].(map[string]any); o == nil || o["count"] != 4.0 || o["first"] != g.path("f", "closed") {
		t.Errorf("omitted: %v", o)
	}
	// What unpacks ZIP files elsewhere takes it too, with time and permissions.
	at := filepath.Join(t.TempDir(), "f.zip")
	if err := os.WriteFile(at, archive, 0o600); err != nil {
		t.Fatal(err)
	}
	unzip := exec.Command("unzip", "-q", at, "-d", filepath.Dir(at))
	unzip.Env = append(os.Environ(), "TZ=UTC")
	if out, err := unzip.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("unzip: %v\n%s", err, out)
	}
	info, err := os.Stat(filepath.Join(filepath.Dir(at), "f", "a", "b", "run.sh"))
	if err != nil || info.Mode() != 0o750 || !info.ModTime().Equal(when) || info.Size() != int64(len(big)) {
		t.Errorf("unpacked: %v %v", info, err)
	}

	events := p.near.recorded()
	if len(events) != 11 {
		t.Errorf("recorded:\n%s", strings.Join(events, "\n"))
	}
	for _, event := range []string{
		fmt.Sprintf("file.downloaded %s  map[in:%s sha256:%s size:%d]", run, g.path("f"), sumOf(big), len(big)),
		fmt.Sprintf("file.downloaded %s  map[files:10 omitted:4 sha256:%s]", g.path("f"), sumOf(archive)),
	} {
		if !slices.Contains(events, event) {
			t.Errorf("%q is not among\n%s", event, strings.Join(events, "\n"))
		}
	}

	for _, r := range []request{{Op: "archive", Path: []byte(run)}, {Op: "archive", Path: []byte(secret)}} {
		if _, code := p.do(r); code != "E_FILE_KIND" {
			t.Errorf("%s: %q", r.Path, code)
		}
	}
	if _, code := p.do(request{Op: "archive", Path: []byte(g.path("f", "closed"))}); code != "E_FILE_ACCESS" {
		t.Errorf("a folder that is closed: %q", code)
	}
	if _, code := p.do(request{Op: "archive", Path: []byte(g.path("nowhere"))}); code != "E_FILE_UNKNOWN" {
		t.Errorf("a folder that is not: %q", code)
	}
	p = begin(t, g, "root", "upload")
	if _, code := p.do(request{Op: "archive", Path: []byte(g.path("f"))}); code != "E_DENIED" {
		t.Errorf("who may not: %q", code)
	}
	if err := os.MkdirAll(g.path("deep")+strings.Repeat("/d", maxDepth+1), 0o755); err != nil {
		t.Fatal(err)
	}
	p = begin(t, g, "root", "download")
	if _, code := p.download(request{Op: "archive", Path: []byte(g.path("deep"))}, io.Discard, 0); code != "E_LIMIT" {
		t.Errorf("too deep: %q", code)
	}
}

// TestArchiveGoesOn: an archive that was interrupted goes on where it was, as long as the folder is the same; what was fetched
// before is not written down again.
func TestArchiveGoesOn(t *testing.T) {
	g := newTarget(t)
	if err := os.Mkdir(g.path("f"), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		g.write(t, noise(1<<20, byte(i)), "f", fmt.Sprint(i))
	}
	p := begin(t, g, "root", "download")
	want, _ := p.archiveOf(g.path("f"))
	if n := len(p.near.recorded()); n != 9 {
		t.Errorf("%d events", n)
	}
	var half bytes.Buffer
	get := request{Op: "archive", Path: []byte(g.path("f"))}
	if _, code := p.download(get, &half, int64(len(want)/2)); code != "" {
		t.Fatal(code)
	}
	p.leave()
	p = begin(t, g, "root", "download")
	before := half.Len()
	get.From, get.SHA256 = int64(before), sumOf(half.Bytes())
	if a, code := p.download(get, &half, 0); code != "" || a["sha256"] != sumOf(want) || !bytes.Equal(half.Bytes(), want) {
		t.Fatalf("went on at %d: %s %v", before, code, a)
	}
	if events := p.near.recorded(); len(events) < 4 || len(events) > 6 || !strings.Contains(events[len(events)-1], "from:") {
		t.Errorf("recorded:\n%s", strings.Join(events, "\n"))
	}
	g.write(t, []byte("other"), "f", "0")
	if _, code := p.download(get, io.Discard, 0); code != "E_FILE_CHANGED" {
		t.Errorf("what has changed: %q", code)
	}
}

// BenchmarkArchive measures a folder of small files, of which most of the time goes to asking for each.
func BenchmarkArchive(b *testing.B) {
	g := newTarget(b)
	const files, size = 1000, 4 << 10
	if err := os.Mkdir(g.path("f"), 0o755); err != nil {
		b.Fatal(err)
	}
	for i := range files {
		g.write(b, noise(size, byte(i)), "f", fmt.Sprint(i))
	}
	p := begin(b, g, "root", "download")
	b.SetBytes(files * size)
	for range b.N {
		if _, code := p.download(request{Op: "archive", Path: []byte(g.path("f"))}, io.Discard, 0); code != "" {
			b.Fatal(code)
		}
	}
}
