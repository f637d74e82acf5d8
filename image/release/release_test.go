package release

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const source = "../.."

var epoch = time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC)

// needs returns a program's path. Where tests/packages.sh has run, as it has for root, it must be there.
func needs(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return path
}

func say(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program, args, err, out)
	}
	return string(out)
}

// TestDeb has dpkg-deb read a package.
func TestDeb(t *testing.T) {
	dpkg := needs(t, "dpkg-deb")
	d := deb{
		name: "probe", version: debianVersion("1.2.3-rc.1"), arch: "amd64",
		fields:    [][2]string{{"Maintainer", maintainer}, {"Description", "a probe\n It probes."}},
		files:     []entry{file("usr/share/doc/probe/odd", []byte("odd")), {"usr/bin/probe", 0o755, bytes.Repeat([]byte("probe "), 5000)}, file("etc/probe.conf", nil)},
		conffiles: []string{"/etc/probe.conf"},
		scripts:   map[string][]byte{"prerm": []byte("#!/bin/sh\n"), "postinst": []byte("#!/bin/sh\n")},
	}
	b, err := d.encode(epoch)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := d.encode(epoch); err != nil || !bytes.Equal(b, again) {
		t.Errorf("a second time it differs: %v", err)
	}
	name := filepath.Join(t.TempDir(), "probe.deb")
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	want := "Package: probe\nVersion: 1.2.3~rc.1\nArchitecture: amd64\nInstalled-Size: 38\nMaintainer: " + maintainer + "\nDescription: a probe\n It probes.\n"
	control := say(t, dpkg, "--info", name)
	for line := range strings.Lines(want) {
		if !strings.Contains(control, " "+line) {
			t.Errorf("lacks %q:\n%s", line, control)
		}
	}
	contents := say(t, "env", "TZ=UTC", dpkg, "--contents", name)
	if want := `drwxr-xr-x root/root         0 2026-01-02 03:04 ./
drwxr-xr-x root/root         0 2026-01-02 03:04 ./etc/
-rw-r--r-- root/root         0 2026-01-02 03:04 ./etc/probe.conf
drwxr-xr-x root/root         0 2026-01-02 03:04 ./usr/
drwxr-xr-x root/root         0 2026-01-02 03:04 ./usr/bin/
-rwxr-xr-x root/root     30000 2026-01-02 03:04 ./usr/bin/probe
drwxr-xr-x root/root         0 2026-01-02 03:04 ./usr/share/
drwxr-xr-x root/root         0 2026-01-02 03:04 ./usr/share/doc/
drwxr-xr-x root/root         0 2026-01-02 03:04 ./usr/share/doc/probe/
-rw-r--r-- root/root         3 2026-01-02 03:04 ./usr/share/doc/probe/odd
`; contents != want {
		t.Errorf("got\n%s", contents)
	}
	parts := t.TempDir()
	say(t, dpkg, "--control", name, parts)
	for name, want := range map[string]string{
		"conffiles": "/etc/probe.conf\n",
		"md5sums": fmt.Sprintf("%x  usr/bin/probe\n%x  usr/share/doc/probe/odd\n",
			md5.Sum(d.files[1].data), md5.Sum(d.files[0].data)),
	} {
		if got, err := os.ReadFile(filepath.Join(parts, name)); err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	if info, err := os.Stat(filepath.Join(parts, "postinst")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("postinst: %v %v", info, err)
	}

	d.fields = [][2]string{{"Description", "a probe\nDepends: everything"}}
	if _, err := d.encode(epoch); err == nil {
		t.Error("a field that begins another is taken")
	}
}

// TestDebianVersion: a candidate comes before its release.
func TestDebianVersion(t *testing.T) {
	dpkg := needs(t, "dpkg")
	versions := []string{"0.9.0", "1.0.0-dev", "1.0.0-rc.1", "1.0.0-rc.2", "1.0.0", "1.0.0+fix.1", "1.0.1"}
	for i := range versions[1:] {
		say(t, dpkg, "--compare-versions", debianVersion(versions[i]), "lt", debianVersion(versions[i+1]))
	}
}

// entriesOfTar are what is in an archive.
func entriesOfTar(t *testing.T, b []byte) map[string]fs.FileInfo {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]fs.FileInfo{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = h.FileInfo()
	}
}

func entriesOfZip(t *testing.T, b []byte) map[string]fs.FileInfo {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]fs.FileInfo{}
	for _, f := range z.File {
		found[f.Name] = f.FileInfo()
	}
	return found
}

func TestArchives(t *testing.T) {
	entries := withFolders([]entry{file("a/b/c", []byte("c")), {"a/run", 0o755, []byte("run")}})
	for name, kind := range map[string]struct {
		encode func(string, []entry, time.Time) ([]byte, error)
		read   func(*testing.T, []byte) map[string]fs.FileInfo
	}{"tar.gz": {tarGz, entriesOfTar}, "zip": {zipped, entriesOfZip}} {
		b, err := kind.encode("", entries, epoch)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := kind.encode("", entries, epoch); err != nil || !bytes.Equal(b, again) {
			t.Errorf("%s: a second time it differs: %v", name, err)
		}
		found := kind.read(t, b)
		for path, mode := range map[string]fs.FileMode{"a/": 0o755 | fs.ModeDir, "a/b/": 0o755 | fs.ModeDir, "a/b/c": 0o644, "a/run": 0o755} {
			info := found[path]
			if info == nil || info.Mode() != mode || !info.ModTime().Equal(epoch) {
				t.Errorf("%s: %s is %v", name, path, info)
			}
		}
		if len(found) != 4 {
			t.Errorf("%s has %v", name, found)
		}
	}
}

// TestUnit: the unit of docs/ is as the package's is made from.
func TestUnit(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join(source, "docs", "sallyportd.service"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := packagedUnit(string(unit))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nExecStart=/usr/bin/sallyportd serve", "\nConditionPathExists=/etc/sallyport/sallyport.yaml\n", "\nAmbientCapabilities=CAP_NET_ADMIN"} {
		if !strings.Contains(string(got), want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(string(got), "adduser") || !strings.HasPrefix(string(got), "[Unit]\n") {
		t.Errorf("begins with how to install it:\n%s", got)
	}
	if _, err := packagedUnit("[Unit]\n"); err == nil {
		t.Error("another unit is taken")
	}
}

func TestExcerpt(t *testing.T) {
	got, err := excerpt("# Title\n\nIntro.\n\n## One\n\n1\n\n## Two\n\n2\n", "Two")
	if want := "# Title\n\nIntro.\n\n## Two\n\n2\n"; err != nil || string(got) != want {
		t.Errorf("%v: %q", err, got)
	}
	if _, err := excerpt("# Title\n\n## One\n", "On"); err == nil {
		t.Error("a section that is not there is found")
	}
	readme, err := os.ReadFile(filepath.Join(source, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := excerpt(string(readme), "Connect"); err != nil {
		t.Error(err)
	}
}

// TestNotices is about a program of ours: each module has its licence there, Go too.
func TestNotices(t *testing.T) {
	text, err := Config{Source: source}.withDefaults().notices(t.Context(), program{"sallyport", platform{"windows", "arm64"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nGo, LICENSE\n", "\ngithub.com/danieljoos/wincred ", "\ngithub.com/urfave/cli/v2 v", "Permission is hereby granted"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("lacks %q", want)
		}
	}
	for _, other := range []string{"\r\n", "blackfriday", "modernc.org/sqlite"} {
		if strings.Contains(string(text), other) {
			t.Errorf("has %q, of which the client has nothing", other)
		}
	}
}

func TestRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"no folder":        {Version: "1.2.3"},
		"no version":       {Out: "x"},
		"a v":              {Out: "x", Version: "v1.2.3"},
		"a line":           {Out: "x", Version: "1.2.3\nDepends: x"},
		"a path":           {Out: "x", Version: "1.2.3-../x"},
		"two hyphens":      {Out: "x", Version: "1.2.3-a-b"},
		"before zip":       {Out: "x", Version: "1.2.3", Epoch: time.Unix(0, 0)},
		"an unknown place": {Out: "x", Version: "1.2.3", Platforms: []string{"plan9-386"}},
	} {
		if _, err := Build(t.Context(), c); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if _, err := os.Stat("x"); err == nil {
		t.Error("what was refused has made a folder")
	}
}

// TestNoSource: who names another folder hears what it lacks.
func TestNoSource(t *testing.T) {
	_, err := Build(t.Context(), Config{Source: t.TempDir(), Out: t.TempDir(), Version: "1.2.3"})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "LICENSE") {
		t.Error(err)
	}
}

// TestPrermNames: what the service's user has called a file is never an option of what root runs.
func TestPrermNames(t *testing.T) {
	script, err := debian.ReadFile("debian/prerm")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"netns/hub":              "",
		"netns/--help":           "",
		"bin/sallyportd":         "#!/bin/sh\necho \"$@\" >>\"" + dir + "/ran\"\n",
		"bin/deb-systemd-invoke": "#!/bin/sh\n",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("sh", "-c", strings.ReplaceAll(string(script), "/run/sallyport", dir), "prerm", "remove")
	c.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	if said, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	ran, err := os.ReadFile(filepath.Join(dir, "ran"))
	if want := "release -- --help\nrelease -- hub\n"; err != nil || string(ran) != want {
		t.Errorf("it ran %q, not %q, %v", ran, want, err)
	}
}
