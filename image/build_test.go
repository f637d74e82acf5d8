package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/image/deb"
)

var (
	gathered    sync.Once
	gatheredIn  *inputs
	gatheredErr error
)

// packages returns what Debian's packages have, which are fetched into the user's cache where it lacks them.
func packages(t *testing.T) *inputs {
	t.Helper()
	gathered.Do(func() {
		var o Options
		if o, gatheredErr = o.withDefaults(); gatheredErr == nil {
			gatheredIn, gatheredErr = fetch(context.Background(), o)
		}
	})
	var missing *deb.MissingError
	if errors.As(gatheredErr, &missing) && os.Getuid() != 0 {
		t.Skip(gatheredErr)
	}
	if gatheredErr != nil {
		t.Fatal(gatheredErr)
	}
	return gatheredIn
}

// TestFlavours finds each module that a flavour names, and what it needs, in the real kernel package.
func TestFlavours(t *testing.T) {
	in := packages(t)
	size := map[string]int{}
	for _, flavour := range Flavours() {
		wanted, err := modules(flavour)
		if err != nil {
			t.Fatal(err)
		}
		names, err := in.modules.Closure(wanted...)
		if err != nil {
			t.Errorf("%s: %v", flavour, err)
		}
		for _, name := range names {
			size[flavour] += len(in.files[name])
		}
		t.Logf("%s: %d modules, %d bytes", flavour, len(names), size[flavour])
	}
	for flavour, n := range size {
		if n > size["all"] {
			t.Errorf("%s has %d bytes, all has %d", flavour, n, size["all"])
		}
	}
}

// TestBuild builds the image with the real daemon, for all machines and for KVM, and holds the sizes to what was promised.
func TestBuild(t *testing.T) {
	in := packages(t)
	dir := t.TempDir()
	o, err := Options{Version: "1.2.3-rc.1", Source: ".."}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	program, d, err := daemon(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	const mib = 1 << 20
	goals := map[string]map[string]int64{
		"all": {".efi": 36 * mib, ".qcow2": 34 * mib, ".tar.gz": 34 * mib},
		"kvm": {".efi": 34 * mib, ".qcow2": 32 * mib},
	}
	for flavour, goals := range goals {
		o.Flavour, o.Out = flavour, filepath.Join(dir, flavour)
		b := &builder{Options: o, in: new(inputs)}
		*b.in = *in
		b.in.daemon, b.m.Daemon = program, d
		if _, err := b.build(t.Context()); err != nil {
			t.Fatal(err)
		}
		m, err := ReadManifest(o.Out)
		if err != nil {
			t.Fatal(err)
		}
		sums, err := os.ReadFile(filepath.Join(o.Out, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range m.Files {
			if got, err := filePart(o.Out, f.Name); err != nil || got != f {
				t.Errorf("%s is %+v, not %+v, %v", f.Name, got, f, err)
			}
			if !strings.Contains(string(sums), f.SHA256+"  "+f.Name+"\n") {
				t.Errorf("SHA256SUMS lacks %s", f.Name)
			}
			for ending, most := range goals {
				if f.Name != o.file(ending) {
					continue
				}
				t.Logf("%s: %.1f MiB of %d", f.Name, float64(f.Size)/mib, most/mib)
				if f.Size > most {
					t.Errorf("%s has %d bytes, more than %d", f.Name, f.Size, most)
				}
			}
		}
		if len(m.Daemon.Packages) != top+1 || m.Daemon.Packages[0].Bytes == 0 || !m.Daemon.Built {
			t.Errorf("the daemon is %+v", m.Daemon)
		}
		checkContent(t, o, m)
	}
	t.Run("verify signed", func(t *testing.T) { testVerifySigned(t, filepath.Join(dir, "kvm")) })
	t.Run("verify", func(t *testing.T) { testVerify(t, filepath.Join(dir, "kvm")) })
}

// checkContent inspects the disk, the program in it and the initramfs in that.
func checkContent(t *testing.T, o Options, m *Manifest) {
	t.Helper()
	for _, ending := range []string{".raw", ".efi"} {
		c, err := Inspect(filepath.Join(o.Out, o.file(ending)))
		if err != nil {
			t.Fatal(err)
		}
		in := ""
		if ending == ".raw" {
			in = UKIPath(o.Version)
			if !slices.ContainsFunc(c.Items, func(i Item) bool { return i.In == "ESP" && i.Name == loaderPath }) {
				t.Errorf("%s lacks the boot loader", o.file(ending))
			}
		}
		for _, want := range m.Sections {
			if !slices.ContainsFunc(c.Items, func(i Item) bool {
				return i.In == in && i.Kind == "section" && i.Name == want.Name && i.SHA256 == want.SHA256
			}) {
				t.Errorf("%s lacks section %s", o.file(ending), want.Name)
			}
		}
		in = strings.TrimPrefix(in+" .initrd", " ")
		init := Item{In: in, Kind: "file", Name: "/init", Size: m.Daemon.Size, SHA256: m.Daemon.SHA256}
		if !slices.Contains(c.Items, init) {
			t.Errorf("%s lacks %+v", o.file(ending), init)
		}
		files := 0
		for _, i := range c.Items {
			if i.In == in && i.Kind == "file" {
				files++
			}
		}
		if want := len(m.Modules) + 3; files != want { // /init, the index and os-release
			t.Errorf("the initramfs has %d files, not %d", files, want)
		}
	}
	if o.Flavour == "all" {
		checkArchive(t, filepath.Join(o.Out, o.file(".tar.gz")))
		c, err := Inspect(filepath.Join(o.Out, o.file(".vhd")))
		if err != nil || c.Kind != "disk" {
			t.Errorf("the VHD: %+v, %v", c, err)
		}
	}
	bill, err := os.ReadFile(filepath.Join(o.Out, o.file(".cdx.json")))
	if err != nil || !bytes.Contains(bill, []byte(`"purl": "pkg:npm/%40xterm/xterm@`)) || !bytes.Contains(bill, []byte(`"purl": "pkg:deb/debian/`)) {
		t.Errorf("the bill of materials lacks what the portal or the system is made of: %v", err)
	}
	for _, ending := range []string{".qcow2", ".cdx.json"} {
		if c, err := Inspect(filepath.Join(o.Out, o.file(ending))); err == nil {
			t.Errorf("%s: got %+v", ending, c)
		}
	}
}

// checkArchive wants what Google takes: disk.raw of whole GiB in an archive of the GNU form.
func checkArchive(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	h, err := tar.NewReader(unpacked).Next()
	if err != nil || h.Name != "disk.raw" || h.Size != 1<<30 || h.Format != tar.FormatGNU {
		t.Errorf("the archive has %+v, %v", h, err)
	}
}

// testVerify builds the image again from a copy of the source in another folder: nothing may differ. Then something does.
func testVerify(t *testing.T, dir string) {
	source := t.TempDir()
	copySource(t, "..", source)
	if os.Getenv("SALLYPORT_SOAK") != "" {
		t.Setenv("GOCACHE", filepath.Join(t.TempDir(), "cache")) // everything is compiled again, for minutes
	}
	o := Options{Source: source}
	differences, m, err := Verify(t.Context(), dir, o)
	if err != nil || len(differences) > 0 || m.Flavour != "kvm" {
		t.Fatalf("got %+v, %v", differences, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "initrd"), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	main := filepath.Join(source, "cmd", "sallyportd", "main.go")
	text, err := os.ReadFile(main)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte("the appliance: brings people"), []byte("another appliance: brings people"), 1)
	if err := os.WriteFile(main, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if differences, _, err = Verify(t.Context(), dir, o); err != nil {
		t.Fatal(err)
	}
	var what []string
	for _, d := range differences {
		what = append(what, d.What)
	}
	if len(what) < 5 || what[0] != "sallyportd" || !slices.Contains(what, "section .initrd") || slices.Contains(what, "section .linux") ||
		what[len(what)-1] != filepath.Join(dir, "initrd") {
		t.Errorf("what differs is %q", what)
	}
	m.Daemon.Built = false
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, manifestFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Verify(t.Context(), dir, o); err == nil || !strings.Contains(err.Error(), "--daemon") {
		t.Errorf("with a daemon that was given: %v", err)
	}
}

// testVerifySigned compares a signed image with the unsigned one. Whatever is changed in it shows, though its manifest is
// changed with it.
func testVerifySigned(t *testing.T, dir string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ours"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	signed := filepath.Join(t.TempDir(), "signed")
	m, err := Sign(t.Context(), dir, Key{key, cert}, Options{Out: signed})
	if err != nil {
		t.Fatal(err)
	}
	look := func(m *Manifest) (what []string) {
		t.Helper()
		d, err := resigned(t.Context(), signed, dir, m)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range d {
			what = append(what, strings.TrimPrefix(d.What, signed+"/"))
		}
		return what
	}
	if got := look(m); len(got) > 0 {
		t.Errorf("nothing was changed, and %q differ", got)
	}
	o := Options{Version: m.Version, Flavour: m.Flavour}
	for name, at := range map[string]int64{
		"vmlinuz": 1000, "initrd": 1000, o.file(".cdx.json"): 10, o.file(".qcow2"): 1 << 20,
		o.file(".raw"): 100 << 20, // in room that no file has
	} {
		file := filepath.Join(signed, name)
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		var was [1]byte
		if _, err := f.ReadAt(was[:], at); err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{^was[0]}, at); err != nil {
			t.Fatal(err)
		}
		forged := *m
		forged.Files = slices.Clone(m.Files)
		for i, p := range forged.Files {
			if p.Name == name {
				if forged.Files[i], err = filePart(signed, name); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := look(&forged); !slices.Equal(got, []string{name}) {
			t.Errorf("%s was changed, and %q differ", name, got)
		}
		if _, err := f.WriteAt(was[:], at); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	forged := *m
	forged.Files = append(slices.Clone(m.Files), Part{Name: "more.raw"})
	if got := look(&forged); !slices.Equal(got, []string{"more.raw"}) {
		t.Errorf("a file more: %q differ", got)
	}
	other := *m.Signed
	other.SHA256 = sum([]byte("another certificate"))
	forged = *m
	forged.Signed = &other
	if got := look(&forged); len(got) != 2 || !strings.HasPrefix(got[0], "signature of ") {
		t.Errorf("signed by another: %q differ", got)
	}
}

// copySource copies what go builds the daemon of.
func copySource(t *testing.T, from, to string) {
	t.Helper()
	for _, name := range []string{"go.mod", "go.sum", "appliance", "client", "cmd", "frame", "host", "image", "netstack", "relay", "transport"} {
		info, err := os.Stat(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.IsDir() {
			err = os.CopyFS(filepath.Join(to, name), os.DirFS(filepath.Join(from, name)))
		} else {
			var b []byte
			if b, err = os.ReadFile(filepath.Join(from, name)); err == nil {
				err = os.WriteFile(filepath.Join(to, name), b, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestOptionsRefuse(t *testing.T) {
	for name, o := range map[string]Options{
		"flavour":  {Flavour: "toaster"},
		"version":  {Version: "1.2"},
		"counter":  {Version: "1.2.3+3"},
		"a path":   {Version: "1.2.3/../x"},
		"too old":  {Epoch: time.Unix(0, 1)},
		"no cache": {Cache: deb.Cache{Dir: t.TempDir(), Mirrors: []string{"http://127.0.0.1:1"}}, Source: t.TempDir(), Daemon: "/nowhere"},
	} {
		o.Out = filepath.Join(t.TempDir(), "out")
		if m, err := Build(t.Context(), o); err == nil {
			t.Errorf("%s: got %+v", name, m)
		}
		if _, err := os.Stat(o.Out); err == nil {
			t.Errorf("%s: the folder was made", name)
		}
	}
}

// TestDaemonRefuses gives what cannot be a machine's only program.
func TestDaemonRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{text, "/bin/sh", filepath.Join(dir, "nothing")} {
		if _, _, err := daemon(t.Context(), Options{Daemon: name}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	o, err := Options{Source: dir}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := daemon(t.Context(), o); err == nil || !strings.Contains(err.Error(), "--daemon") {
		t.Errorf("no source: %v", err)
	}
}

func TestPackageOf(t *testing.T) {
	for symbol, want := range map[string]string{
		"net/http.(*conn).serve":             "net/http",
		"main.main":                          "main",
		"gopkg.in/yaml%2ev3.Unmarshal":       "gopkg.in/yaml.v3",
		"slices.SortFunc[go.shape.[]a/b.T,]": "slices",
		"github.com/a/b.F[c.d/e.G].func1":    "github.com/a/b",
		"type:*net/http.conn":                "go",
		"go:string.*":                        "go",
		"runtime.pclntab":                    "runtime",
		"_cgo_init":                          "go",
	} {
		if got := packageOf(symbol); got != want {
			t.Errorf("%s: got %s, not %s", symbol, got, want)
		}
	}
}
