package main

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/image"
	"sallyport/image/uki"
	"sallyport/image/uki/ukitest"
	"sallyport/image/update"
)

// TestUpdateFile: a key is made, and what it signs an appliance that knows it can open.
func TestUpdateFile(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	efi := func(name, version, ordered string) []byte {
		b, err := uki.Build(ukitest.Program("stub"), []uki.Section{{Name: ".osrel", Data: fmt.Appendf(nil, "ID=sallyport\nVERSION_ID=%s\nIMAGE_VERSION=%s\nVARIANT_ID=kvm\n", version, ordered)}})
		if err == nil {
			err = os.WriteFile(in(name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	written := efi("uki.efi", "1.2.0", "1.2.0")
	efi("odd.efi", "1.2.0", "1.0.0")
	efi("rc.efi", "1.2.0-rc1", "1.2.0~rc1")
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
	for floor, args := range map[string][]string{
		"":      {},
		"1.1.0": {"--version", "1.2.0", "--floor", "1.1.0", "--flavour", "kvm"},
	} {
		image(0, append([]string{"update", "--uki", in("uki.efi"), "--key", in("key"), "--out", in("out.update")}, args...)...)
		f, err := os.Open(in("out.update"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		u, err := update.Open(f, keys...)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(u); err != nil || !bytes.Equal(b, written) || u.Header.Version != "1.2.0" || u.Header.Floor != floor || u.Header.Flavour != "kvm" {
			t.Errorf("%d bytes, %+v, %v", len(b), u.Header, err)
		}
	}

	for want, args := range map[string][]string{
		"--key is needed":    {"update", "--uki", in("uki.efi")},
		"version 1.2.0, not": {"update", "--uki", in("uki.efi"), "--key", in("key"), "--version", "2.0.0"},
		"flavour kvm, not":   {"update", "--uki", in("uki.efi"), "--key", in("key"), "--flavour", "all"},
		"IMAGE_VERSION":      {"update", "--uki", in("odd.efi"), "--key", in("key")},
		"not a version":      {"update", "--uki", in("rc.efi"), "--key", in("key")},
		"not an EFI program": {"update", "--uki", in("key"), "--key", in("key")},
		"takes no argument":  {"update", "--uki", in("uki.efi"), "--key", in("key"), "more"},
		"takes the name of":  {"update-key"},
		"no private key":     {"update", "--uki", in("uki.efi"), "--key", in("uki.efi")},
		"later than itself":  {"update", "--uki", in("uki.efi"), "--key", in("key"), "--floor", "1.3.0", "--out", in("bad")},
		"no such file":       {"update", "--uki", in("nowhere"), "--key", in("key")},
	} {
		status := 1
		if want == "--key is needed" || strings.HasPrefix(want, "takes") {
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

// TestVerified: who has verified an image is told whose updates it takes, and can say whose it must.
func TestVerified(t *testing.T) {
	key := func(b byte) string { return update.FormatKey(bytes.Repeat([]byte{b}, ed25519.PublicKeySize)) }
	for _, c := range []struct {
		has, want string
		same      bool
	}{{"", "", true}, {key(1), "", false}, {"", key(1), false}, {key(1) + "," + key(2), key(2) + " " + key(1), true}, {key(1) + "," + key(2), key(1), false}} {
		if got, err := sameKeys(c.has, c.want); err != nil || got != c.same {
			t.Errorf("%q and %q: %v, %v", c.has, c.want, got, err)
		}
	}
	if _, err := sameKeys(key(1), "key"); err == nil {
		t.Error("what is no key is taken")
	}
	for keys, want := range map[string]string{"": "takes no updates but", key(1) + "," + key(2): "signed by " + key(1) + "\ntakes updates signed by " + key(2) + "\n"} {
		var out bytes.Buffer
		if err := (env{stdout: &out}).verified("dir", &image.Manifest{Version: "1.2.3", Flavour: "kvm", Updates: keys}); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%q: %q, %v", keys, out.String(), err)
		}
	}
}
