package disk

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

var layout = Layout{
	Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	Files: []File{
		{"EFI/BOOT/BOOTX64.EFI", bytes.Repeat([]byte("boot"), 3000)},
		{"EFI/Linux/sallyport_1.0.0-rc.1.efi", bytes.Repeat([]byte("kernel"), 1<<20)},
		{"loader/loader.conf", []byte("timeout 0\n")},
	},
}

func write(t *testing.T) string {
	name := filepath.Join(t.TempDir(), "disk.raw")
	if err := Write(name, layout); err != nil {
		t.Fatal(err)
	}
	return name
}

// real finds a program that a test cannot do without, where the machine has all that is tested with.
func real(t *testing.T, program string) string {
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + program)
	}
	if err != nil && os.Getuid() == 0 {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return path
}

func TestWrite(t *testing.T) {
	name := write(t)
	c, err := Read(name)
	if err != nil {
		t.Fatal(err)
	}
	want := []Partition{{"ESP", ESPGUID, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", 1 << 20, ESPSize}}
	if !reflect.DeepEqual(c.Partitions, want) || !reflect.DeepEqual(c.Files, layout.Files) {
		t.Errorf("got %+v and %d files", c.Partitions, len(c.Files))
	}
	one, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second) // which is how finely FAT tells time
	t.Setenv("SOURCE_DATE_EPOCH", "1000000000")
	two, err := os.ReadFile(write(t))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) {
		t.Error("the second disk differs")
	}
	if got := os.Getenv("SOURCE_DATE_EPOCH"); got != "1000000000" {
		t.Errorf("SOURCE_DATE_EPOCH is %q afterwards", got)
	}
}

// TestOthersRead has the programs of others look at the disk.
func TestOthersRead(t *testing.T) {
	name := write(t)
	if said, err := exec.Command(real(t, "sfdisk"), "--verify", name).CombinedOutput(); err != nil || !bytes.Contains(said, []byte("No errors")) {
		t.Errorf("sfdisk: %v: %s", err, said)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	esp := filepath.Join(t.TempDir(), "esp")
	if err := os.WriteFile(esp, b[mib:mib+ESPSize], 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command(real(t, "fsck.fat"), "-n", esp).CombinedOutput(); err != nil {
		t.Errorf("fsck.fat: %v: %s", err, said)
	}
}

func TestTooMuch(t *testing.T) {
	l := Layout{Time: layout.Time, Files: []File{{"large", make([]byte, ESPSize)}}}
	if err := Write(filepath.Join(t.TempDir(), "disk.raw"), l); err == nil {
		t.Error("a file as large as the partition: no error")
	}
}

func TestVHD(t *testing.T) {
	raw := write(t)
	name := filepath.Join(t.TempDir(), "disk.vhd")
	if err := VHD(name, raw); err != nil {
		t.Fatal(err)
	}
	disk, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != len(disk)+footerSize || !bytes.Equal(b[:len(disk)], disk) {
		t.Fatalf("%d bytes, not those of the disk and a footer", len(b))
	}
	f := b[len(disk):]
	want := binary.BigEndian.Uint32(f[64:])
	clear(f[64:68])
	sum := uint32(0)
	for _, c := range f {
		sum += uint32(c)
	}
	if ^sum != want || string(f[:8]) != "conectix" || binary.BigEndian.Uint64(f[48:]) != uint64(len(disk)) {
		t.Errorf("the footer is %q", f[:96])
	}
	said, err := exec.Command(real(t, "qemu-img"), "compare", "-f", "raw", "-F", "vpc", raw, name).CombinedOutput()
	if err != nil {
		t.Errorf("qemu-img: %v: %s", err, said)
	}
}

func TestVHDWantsWholeMiB(t *testing.T) {
	raw := filepath.Join(t.TempDir(), "odd")
	if err := os.WriteFile(raw, make([]byte, mib+512), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := VHD(filepath.Join(t.TempDir(), "disk.vhd"), raw); err == nil {
		t.Error("no error")
	}
}

// TestGeometry compares with the values of the specification's algorithm for sizes in each of its branches.
func TestGeometry(t *testing.T) {
	for size, want := range map[uint64][]byte{
		130 << 20:  {0x03, 0xd2, 16, 17},
		1 << 30:    {0x08, 0x20, 16, 63},
		40 << 30:   {0x50, 0x50, 16, 255},
		4000 << 30: {0xff, 0xff, 16, 255},
	} {
		if got := geometry(size); !bytes.Equal(got, want) {
			t.Errorf("%d: got %x, not %x", size, got, want)
		}
	}
}

// TestArchive has a small disk in a small archive; package image looks at one of a GiB.
func TestArchive(t *testing.T) {
	const multiple = 4 * mib
	raw := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(raw, bytes.Repeat([]byte("disk"), mib+7), 0o600); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "disk.tar.gz")
	if err := archive(name, raw, layout.Time, multiple); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	in := tar.NewReader(unpacked)
	h, err := in.Next()
	if err != nil || h.Name != "disk.raw" || h.Size != 2*multiple || h.Format != tar.FormatGNU {
		t.Fatalf("got %+v, %v", h, err)
	}
	disk, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(disk))
	if _, err := io.ReadFull(in, got); err != nil || !bytes.Equal(got, disk) {
		t.Errorf("it has another disk, %v", err)
	}
	if _, err := in.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("then %v", err)
	}
}

func TestQCOW2(t *testing.T) {
	program, raw, dir := real(t, "qemu-img"), write(t), t.TempDir()
	var all [2][]byte
	for i := range all {
		name := filepath.Join(dir, "disk.qcow2")
		version, err := QCOW2(t.Context(), name, raw)
		if err != nil || version == "" {
			t.Fatalf("%q, %v", version, err)
		}
		if said, err := exec.Command(program, "compare", raw, name).CombinedOutput(); err != nil {
			t.Errorf("qemu-img: %v: %s", err, said)
		}
		if all[i], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(all[0], all[1]) {
		t.Error("the second one differs")
	}
	t.Setenv("PATH", dir)
	if _, err := QCOW2(t.Context(), filepath.Join(dir, "x"), raw); !errors.Is(err, ErrNoQEMU) {
		t.Errorf("without qemu-img: %v", err)
	}
}

func TestReadRefuses(t *testing.T) {
	name := write(t)
	for what, damage := range map[string]func(*os.File) error{
		"cut":     func(f *os.File) error { return f.Truncate(64 << 10) },
		"no FAT":  func(f *os.File) error { _, err := f.WriteAt(make([]byte, 8192), mib); return err },
		"no GPT":  func(f *os.File) error { return f.Truncate(0) },
		"garbage": func(f *os.File) error { _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 4096), mib); return err },
	} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		bad := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(bad, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(bad, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := damage(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		if c, err := Read(bad); err == nil {
			t.Errorf("%s: got %+v", what, c.Partitions)
		}
	}
}
