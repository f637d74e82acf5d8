package vm

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/image"
	"sallyport/image/update"
)

// version builds another version of the image, and returns its unified kernel image. With a daemon that is what process 1
// is.
func version(t *testing.T, name, daemon string) []byte {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "image")
	if _, err := image.Build(context.Background(), image.Options{Flavour: "kvm", Version: name, Out: dir, Daemon: daemon}); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(dir + "/*.efi")
	if len(files) != 1 {
		t.Fatalf("the image has %q", files)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// broken is a process 1 that ends at once, so that the kernel panics.
func broken(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "init")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := compile("-o", program, source); err != nil {
		t.Fatal(err)
	}
	return program
}

// status is what sallyport admin update status prints.
type status struct {
	Version, Next string
	Trial         bool
	Slots         []struct{ Version, State string }
}

func (m *machine) status() (s status) {
	m.t.Helper()
	out, err := m.client("", "admin", "update", "status", "--json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil {
		m.t.Fatalf("status: %v\n%s", err, out)
	}
	return s
}

// has wants a version on the disk in a state.
func (m *machine) has(version, state string) {
	m.t.Helper()
	s := m.status()
	if !slices.ContainsFunc(s.Slots, func(slot struct{ Version, State string }) bool {
		return slot.Version == version && slot.State == state
	}) {
		m.t.Errorf("there is no %s that is %s: %+v", version, state, s)
	}
}

// TestUpdate: what is not genuine is refused. A version that does not live is tried twice, and then the one before serves
// again by itself, with the state that it had. One that lives is blessed, and can be rolled back.
func TestUpdate(t *testing.T) {
	t.Parallel()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := start(t, options{disk: true, door: true, starts: true, memory: 512, config: document(forms[0]) + "update: {keys: [" + update.FormatKey(public) + "]}\n"})
	m.comesIn()
	m.confined("/data/state")
	m.mounted("/data", "nosuid", "nodev", "noexec")
	if s := m.status(); s.Version != "0.1.0-dev" || s.Next != s.Version || s.Trial {
		t.Errorf("the first start: %+v", s)
	}
	file := func(name, version string, key ed25519.PrivateKey, uki []byte) string {
		t.Helper()
		var b bytes.Buffer
		if _, err := update.Write(&b, update.Header{Name: update.Name, Version: version, Flavour: "kvm"}, bytes.NewReader(uki), key); err != nil {
			t.Fatal(err)
		}
		return m.write(name, b.String())
	}
	refused := func(file, why string) {
		t.Helper()
		if out, err := m.client("", "admin", "update", "--yes", file); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v %s", filepath.Base(file), err, out)
		}
	}
	good := version(t, "1.0.0", "")
	refused(file("unsigned", "1.0.0", stranger, good), "signed by none of the keys")
	refused(file("older", "0.0.9", private, good), "not later than what runs")
	altered, err := os.ReadFile(file("altered", "1.0.0", private, good))
	if err != nil {
		t.Fatal(err)
	}
	altered[len(altered)/2] ^= 1
	refused(m.write("altered", string(altered)), "not the one that was signed")
	refused(m.write("cut", string(altered[:len(altered)/2])), "missing")

	install := func(file string) {
		t.Helper()
		if out, err := m.client("", "admin", "update", "--yes", file); err != nil {
			t.Fatalf("%s: %v\n%s", filepath.Base(file), err, out)
		}
	}
	const starts = `sallyportd 0\.1\.0-dev [^\n]* starts`
	begin := time.Now()
	install(file("bad", "0.9.0", private, version(t, "0.9.0", broken(t))))
	m.console(2, `Attempted to kill init`)
	m.console(2, starts)
	m.console(2, "serving listen=")
	m.comesIn()
	t.Logf("a bad version was installed, tried twice and given up within %v", time.Since(begin).Round(time.Second))
	m.has("0.9.0", "given-up")

	begin = time.Now()
	install(file("good", "1.0.0", private, good))
	m.console(1, `this version is good[^\n]*1\.0\.0`)
	m.comesIn()
	t.Logf("a good version was installed and blessed within %v", time.Since(begin).Round(time.Second))
	m.has("1.0.0", "good")
	m.has("0.1.0-dev", "good")
	refused(file("again", "1.0.0", private, good), "not later than what runs")

	if out, err := m.client("", "admin", "update", "rollback", "--yes"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m.console(3, starts)
	m.console(4, "serving listen=")
	m.comesIn()
	m.has("1.0.0", "given-up")
}
