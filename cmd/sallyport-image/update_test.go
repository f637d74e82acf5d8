package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/image/update"
)

// TestUpdateFile: a key is made, and what it signs an appliance that knows it can open.
func TestUpdateFile(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(in("uki.efi"), []byte("MZ image"), 0o600); err != nil {
		t.Fatal(err)
	}
	image := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		var o, e bytes.Buffer
		if got := run(t.Context(), env{append([]string{"sallyport-image"}, args...), &o, &e}); got != want {
			t.Fatalf("%q: exit status %d: %s", args, got, e.String())
		}
		return o.String(), e.String()
	}
	public, _ := image(0, "update-key", in("key"))
	if again, _ := image(0, "update-key", in("key")); again != public { // the key that is there stays
		t.Errorf("%q became %q", public, again)
	}
	if info, err := os.Stat(in("key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	keys, err := update.ParseKeys(public)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%q: %v", public, err)
	}
	image(0, "update", "--uki", in("uki.efi"), "--key", in("key"), "--version", "1.2.0", "--floor", "1.1.0", "--flavour", "kvm", "--out", in("out.update"))
	f, err := os.Open(in("out.update"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	u, err := update.Open(f, keys...)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(u); err != nil || string(b) != "MZ image" || u.Header.Version != "1.2.0" || u.Header.Floor != "1.1.0" || u.Header.Flavour != "kvm" {
		t.Errorf("%q, %+v, %v", b, u.Header, err)
	}

	for want, args := range map[string][]string{
		"--key is needed":   {"update", "--uki", in("uki.efi"), "--version", "1.2.0"},
		"not a version":     {"update", "--uki", in("uki.efi"), "--key", in("key"), "--version", "new"},
		"takes no argument": {"update", "--uki", in("uki.efi"), "--key", in("key"), "--version", "1.2.0", "more"},
		"takes the name of": {"update-key"},
		"no private key":    {"update", "--uki", in("uki.efi"), "--key", in("uki.efi"), "--version", "1.2.0"},
		"later than itself": {"update", "--uki", in("uki.efi"), "--key", in("key"), "--version", "1.2.0", "--floor", "1.3.0", "--out", in("bad")},
		"no such file":      {"update", "--uki", in("nowhere"), "--key", in("key"), "--version", "1.2.0"},
	} {
		status := 1
		if want == "--key is needed" || strings.HasPrefix(want, "takes") || want == "not a version" {
			status = exitUsage
		}
		if _, said := image(status, args...); !strings.Contains(said, want) || strings.Contains(said, "BEGIN") {
			t.Errorf("%q: %q", args, said)
		}
	}
	if left, _ := filepath.Glob(in("*update-*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
