package deploy

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"sallyport/appliance/access"
	"sallyport/appliance/config"
	"sallyport/appliance/policy"
	"sallyport/netstack"
)

// TestSamples reads every configuration as the appliance would.
func TestSamples(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		seen++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if d.Name() == "access.yaml" {
			checkAccess(t, path, data)
		} else {
			checkConfig(t, path, data)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen < 3 {
		t.Errorf("only %d files were read", seen)
	}
}

func checkAccess(t *testing.T, path string, data []byte) {
	t.Helper()
	rules, err := access.Read(access.Files{"access.yaml": data}, policy.Options{
		AddressSyntax: netstack.ParseAddr,
		Forbidden:     func(netip.Addr) error { return nil },
		VNets:         []string{"hub"},
	})
	if err != nil {
		t.Errorf("%s: %v", path, err)
		return
	}
	if rules.Policy == nil {
		t.Errorf("%s has no policy", path)
	}
}

func checkConfig(t *testing.T, path string, data []byte) {
	t.Helper()
	// What it says must hold on the machine that it is for, not on this one: only the text is looked at.
	c, err := config.Parse(path, data)
	if err != nil {
		t.Errorf("%v", err)
		return
	}
	if shown := filepath.Base(path) == "console.yaml"; shown != (c.Machine.Enrol != "") {
		t.Errorf("%s enrols %q by a code on the console, which a cloud keeps and shows to others", path, c.Machine.Enrol)
	}
	if c.Listen.Address != "" || c.Uplink == "kernel" {
		t.Errorf("%s listens or calls by the kernel, which has no address in these forms", path)
	}
}
