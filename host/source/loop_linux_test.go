package source

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Volumes are read from block devices as from files: of those the kernel says other sizes, and reads in other units.
func TestBlockDevice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may make a loop device")
	}
	for _, kind := range []string{"12", "32", "iso"} {
		t.Run(kind, func(t *testing.T) {
			image := filepath.Join(t.TempDir(), "image")
			makeVolume(t, image, kind, "CIDATA", map[string]string{"user-data": "#sallyport\n" + sample, "access.yaml": "admins: [ann]\n"})
			out, err := exec.Command("losetup", "--find", "--show", "--read-only", image).Output()
			if err != nil {
				t.Skipf("this machine has no loop devices: %v", err) // a container
			}
			device := strings.TrimSpace(string(out))
			t.Cleanup(func() { exec.Command("losetup", "--detach", device).Run() })
			m := machine(t.TempDir())
			m.put(t, "sys/class/block/"+filepath.Base(device)+"/x", "")
			if err := os.Mkdir(filepath.Join(string(m), "dev"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(device, filepath.Join(string(m), "dev", filepath.Base(device))); err != nil {
				t.Fatal(err)
			}
			d, err := Local(string(m), ReadVolume)
			if err != nil || string(d.Config) != "#sallyport\n"+sample || string(d.Files["access.yaml"]) != "admins: [ann]\n" {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
}
