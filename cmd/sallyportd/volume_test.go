package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestVolumeChild: a child reads a volume as this process would.
func TestVolumeChild(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{"sallyport.yaml": "vnets: {}\n", "access.yaml": "admins: [ann]\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(label string) (string, error) {
		image := filepath.Join(t.TempDir(), "image")
		if out, err := exec.Command("genisoimage", "-quiet", "-r", "-V", label, "-o", image, folder).CombinedOutput(); err != nil {
			t.Skipf("genisoimage: %v: %s", err, out)
		}
		f, err := os.Open(image)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		d, err := volumeReader(t.Context(), nil)(f, "CIDATA volume vdb")
		return d.From + ": " + string(d.Config) + string(d.Files["access.yaml"]), err
	}
	if got, err := read("CIDATA"); got != "CIDATA volume vdb, sallyport.yaml: vnets: {}\nadmins: [ann]\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := read("PHOTOS"); err == nil || !strings.HasPrefix(err.Error(), "CIDATA volume vdb: ") {
		t.Error(err)
	}
}
