// Package release makes a release as `make release` does, installs it with Debian's own tools, and takes it off again.
package release

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/appliance/clients"
)

const (
	source  = "../.."
	version = "1.2.3-rc.1"
)

// must runs a program, and ends the test if it fails.
func must(t *testing.T, c *exec.Cmd) string {
	t.Helper()
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(c.Args, " "), err, out.String())
	}
	return out.String()
}

// TestRelease needs root: what it installs goes into a copy of this system.
func TestRelease(t *testing.T) {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		t.Skip("installing packages needs root")
	}
	began := time.Now()
	tool := filepath.Join(t.TempDir(), "sallyport-image")
	must(t, exec.Command("go", "build", "-buildvcs=false", "-o", tool, "sallyport/cmd/sallyport-image"))
	first, second := filepath.Join(t.TempDir(), "first"), filepath.Join(t.TempDir(), "second")
	must(t, makes(tool, source, first))
	t.Logf("released in %v", time.Since(began).Round(time.Second))

	t.Run("twice", func(t *testing.T) {
		c := makes(tool, copied(t), second)
		c.Env = append(c.Env, "TZ=Asia/Kolkata", "LC_ALL=C", "GOFLAGS=-race", "USER=somebody")
		must(t, c)
		names := sums(t, first)
		if len(names) != 2*10 {
			t.Errorf("the release is %q", names)
		}
		for _, name := range append(names, "SHA256SUMS") {
			if !bytes.Equal(read(t, filepath.Join(first, name)), read(t, filepath.Join(second, name))) {
				t.Errorf("%s differs between two builds", name)
			}
		}
	})
	t.Run("sums", func(t *testing.T) {
		c := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
		c.Dir = first
		must(t, c)
		offered, err := clients.ReadSums(read(t, filepath.Join(first, clients.SumsName)))
		if err != nil || len(offered) != 8 {
			t.Errorf("an appliance would offer %+v, %v", offered, err)
		}
	})
	t.Run("bills", func(t *testing.T) { bills(t, first) })
	t.Run("archive", func(t *testing.T) { archive(t, first) })
	t.Run("lintian", func(t *testing.T) {
		debs := glob(t, filepath.Join(first, "*.deb"))
		if len(debs) != 4 {
			t.Fatalf("the packages are %q", debs)
		}
		c := exec.Command("lintian", append([]string{"--allow-root", "--fail-on", "error,warning"}, debs...)...)
		if said := must(t, c); strings.TrimSpace(said) != "" {
			t.Error(said)
		}
	})
	t.Run("manual", func(t *testing.T) {
		folder := filepath.Join(t.TempDir(), "client")
		unpack(t, first, folder)
		pages := glob(t, filepath.Join(folder, "*", "man", "man1", "*.1"))
		must(t, exec.Command("mandoc", append([]string{"-T", "lint", "-W", "warning,stop"}, pages...)...))
	})
	t.Run("install", func(t *testing.T) { install(t, first) })
	t.Run("service", func(t *testing.T) { service(t, first) })
}

// makes is a release as make asks for it.
func makes(tool, source, out string) *exec.Cmd {
	c := exec.Command(tool, "release", "--source", source, "--out", out, "--version", version)
	c.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1767312246")
	return c
}

// copied is the source at another path, in files with other rights.
func copied(t *testing.T) string {
	to := filepath.Join(t.TempDir(), "somewhere else")
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = source
	names, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Split(strings.TrimRight(string(names), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(source, name))
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// sums are the names in SHA256SUMS.
func sums(t *testing.T, folder string) []string {
	var names []string
	for line := range strings.Lines(string(read(t, filepath.Join(folder, "SHA256SUMS")))) {
		_, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		names = append(names, name)
	}
	return names
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unpack unpacks this computer's archive.
func unpack(t *testing.T, release, folder string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("sallyport-%s-linux-%s.tar.gz", version, runtime.GOARCH)
	must(t, exec.Command("tar", "-xzf", filepath.Join(release, name), "-C", folder))
}

// links are those of pages to each other.
var links = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v, %d files", pattern, err, len(names))
	}
	return names
}

// bills: what the portal's pages are made of stands in those of the daemon, and in no other.
func bills(t *testing.T, release string) {
	for _, name := range glob(t, filepath.Join(release, "*.cdx.json")) {
		has := bytes.Contains(read(t, name), []byte(`"purl": "pkg:npm/`))
		if want := strings.HasPrefix(filepath.Base(name), "sallyportd_"); has != want {
			t.Errorf("%s has npm packages: %v", filepath.Base(name), has)
		}
	}
	deb := glob(t, filepath.Join(release, "sallyportd_*.deb"))[0]
	folder := t.TempDir()
	must(t, exec.Command("dpkg-deb", "--extract", deb, folder))
	notices := must(t, exec.Command("gzip", "-dc", filepath.Join(folder, "usr/share/doc/sallyportd/third-party-licenses.txt.gz")))
	if !strings.Contains(notices, "@xterm/xterm ") || !strings.Contains(notices, "github.com/coder/websocket ") {
		t.Error("the daemon's package lacks licences")
	}
}

// archive: the program in it is of the version, and all is there that the README of it names.
func archive(t *testing.T, release string) {
	folder := t.TempDir()
	unpack(t, release, folder)
	inside := filepath.Join(folder, fmt.Sprintf("sallyport-%s-linux-%s", version, runtime.GOARCH))
	if said := must(t, exec.Command(filepath.Join(inside, "sallyport"), "version")); !strings.HasPrefix(said, "sallyport "+version+", protocol ") {
		t.Error(said)
	}
	for _, name := range []string{"LICENSE", "README.md", "third-party-licenses.txt", "docs/connecting.md", "docs/install.md", "docs/sallyportd.service", "man/man1/sallyport.1",
		"completions/sallyport.bash", "completions/_sallyport", "completions/sallyport.fish", "completions/sallyport.ps1"} {
		if info, err := os.Stat(filepath.Join(inside, name)); err != nil || info.Size() == 0 || info.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	for _, page := range append([]string{filepath.Join(inside, "README.md")}, glob(t, filepath.Join(inside, "docs", "*.md"))...) {
		for _, link := range links.FindAllStringSubmatch(string(read(t, page)), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), link[1])); err != nil {
				t.Errorf("%s leads nowhere: %v", filepath.Base(page), err)
			}
		}
	}
	zip := filepath.Join(release, fmt.Sprintf("sallyport-%s-windows-amd64.zip", version))
	if list := must(t, exec.Command("python3", "-m", "zipfile", "-l", zip)); !strings.Contains(list, "/sallyport.exe ") {
		t.Error(list)
	}
}

// install runs install.sh in a copy of this system, and looks at what is left of it when all is purged.
func install(t *testing.T, release string) {
	written := t.TempDir()
	c := exec.Command("unshare", "--mount", "--net", "--pid", "--cgroup", "--fork", "--kill-child", "sh", "-euc", `
		./system.sh "$1" "$2" install.sh
		chroot "$1/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
			sh /mnt/install.sh "$3"
		cp -a "$1/upper" "$4/"
	`, "install", t.TempDir(), release, version, written)
	t.Log(must(t, c))

	upper := filepath.Join(written, "upper")
	err := filepath.WalkDir(upper, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := "/" + strings.TrimPrefix(strings.TrimPrefix(path, upper), "/")
		if slices.ContainsFunc(bookkeeping, func(of string) bool { return name == of || strings.HasPrefix(name, of+"/") }) {
			return nil
		}
		was, err := os.Lstat(name)
		switch {
		case err != nil:
			t.Errorf("%s is left behind", name)
		case d.Type() != was.Mode().Type():
			t.Errorf("%s is no longer what it was, but %v", name, d.Type())
		case d.Type().IsRegular() && !same(t, path, name):
			t.Errorf("%s was changed", name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// service runs service.sh in a copy of this system that systemd has started, in a control group of its own.
func service(t *testing.T, release string) {
	said := t.TempDir()
	c := exec.Command("unshare", "--mount", "sh", "-euc", `
		mkdir "$1/groups" "$1/copy"
		mount -t cgroup2 cgroup2 "$1/groups"
		group=$1/groups/sallyport-release-test-$$
		mkdir "$group"
		trap 'for i in 1 2 3 4 5 6 7 8 9; do find "$group" -depth -type d -exec rmdir {} + && break; sleep 1; done' EXIT
		sh -euc 'echo $$ >"$1/cgroup.procs"; shift; exec timeout --signal KILL 300 \
			unshare --mount --net --pid --ipc --uts --cgroup --fork --kill-child "$@"' sh "$group" \
			./service.sh "$1/copy" "$2" "$3" || true # it ends by powering off
	`, "service", t.TempDir(), release, said)
	out := must(t, c)
	if got := string(read(t, filepath.Join(said, "said"))); !strings.Contains(got, "\nall done\n") {
		t.Errorf("%s\n%s", out, got)
	}
}

// bookkeeping is what dpkg and those whom it tells write for themselves.
var bookkeeping = []string{"/var/lib/dpkg", "/var/log", "/var/cache", "/var/lib/systemd/deb-systemd-helper-enabled", "/tmp",
	"/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock"}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	return bytes.Equal(read(t, a), read(t, b))
}
