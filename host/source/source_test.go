package source

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// machine is a folder that looks like a machine's sys and dev.
type machine string

func (m machine) put(t testing.TB, name, content string) {
	t.Helper()
	path := filepath.Join(string(m), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

const sample = "listen: {vnet: hub}\nvnets: {}\n"

func TestFirmware(t *testing.T) {
	m := machine(t.TempDir())
	if _, err := Local(string(m), ReadVolume); !errors.Is(err, ErrNone) {
		t.Fatalf("an empty machine: %v", err)
	}
	const items = "sys/firmware/qemu_fw_cfg/by_name/opt/sallyport/"
	m.put(t, items+"config/raw", sample)
	m.put(t, items+"files/access.yaml/raw", "admins: [ann]\n")
	m.put(t, items+"files/access/ops.cedar/raw", "// x\n")
	d, err := Local(string(m), ReadVolume)
	if err != nil || len(d.Files) != 2 || string(d.Files["access/ops.cedar"]) != "// x\n" || string(d.Config) != sample || string(d.Files["access.yaml"]) != "admins: [ann]\n" || d.From != "fw_cfg opt/sallyport/config" {
		t.Errorf("%+v, %v", d, err)
	}
}

// A source that is there and broken hides those behind it.
func TestBrokenIsNotPassedOver(t *testing.T) {
	m := machine(t.TempDir())
	m.put(t, "sys/firmware/qemu_fw_cfg/by_name/opt/sallyport/config/raw", strings.Repeat("#", MaxDocument+1))
	m.put(t, "sys/firmware/dmi/entries/11-0/raw", oem("sallyport.config="+sample))
	_, err := Local(string(m), ReadVolume)
	if err == nil || !strings.HasPrefix(err.Error(), "fw_cfg opt/sallyport/config: ") || errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
}

// oem is a structure of type 11.
func oem(strs ...string) string {
	return "\x0b\x05\x00\x00" + string(rune(len(strs))) + strings.Join(strs, "\x00") + "\x00\x00"
}

func TestSMBIOS(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte(sample))
	for name, entries := range map[string][]string{
		"plain":      {oem("other", "sallyport.config="+sample)},
		"base64":     {oem("sallyport.config=" + encoded)},
		"parts":      {oem("sallyport.config="+encoded[:9], "x", "sallyport.config="+encoded[9:])},
		"structures": {oem("sallyport.config=" + sample[:9]), oem("sallyport.config=" + sample[9:])},
	} {
		t.Run(name, func(t *testing.T) {
			m := machine(t.TempDir())
			for i, e := range entries {
				m.put(t, fmt.Sprintf("sys/firmware/dmi/entries/11-%d/raw", i), e)
			}
			d, err := Local(string(m), ReadVolume)
			if err != nil || string(d.Config) != sample || d.From != "SMBIOS type 11" {
				t.Errorf("%q %q, %v", d.From, d.Config, err)
			}
		})
	}
}

func FuzzSMBIOS(f *testing.F) {
	f.Add([]byte(oem("a", "sallyport.config=x: y")))
	f.Add([]byte("\x0b\x04\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		total := 0
		for _, s := range oemStrings(raw) {
			if total += len(s); len(s) == 0 || bytes.IndexByte(s, 0) >= 0 {
				t.Fatalf("%q", s)
			}
		}
		if total > len(raw) {
			t.Fatal("more than there was")
		}
	})
}

// run runs a program that makes volumes. The tests' packages bring it.
func run(t testing.TB, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		if errors.Is(err, exec.ErrNotFound) && os.Geteuid() != 0 {
			t.Skipf("%s is not installed", name)
		}
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// makeVolume makes a volume of files with the label.
func makeVolume(t testing.TB, path, kind, label string, files map[string]string) {
	t.Helper()
	folder := t.TempDir()
	for name, text := range files {
		machine(folder).put(t, name, text)
	}
	if kind == "iso" || kind == "joliet" {
		flags := map[string][]string{"iso": {"-r"}, "joliet": {"-J"}}[kind]
		run(t, "genisoimage", append(flags, "-quiet", "-V", label, "-o", path, folder)...)
		return
	}
	size := map[string]int64{"12": 1440 << 10, "16": 16 << 20, "32": 64 << 20}[kind]
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	run(t, "mkfs.vfat", "-F", kind, "-n", label, path)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		run(t, "mcopy", "-s", "-i", path, filepath.Join(folder, e.Name()), "::"+e.Name())
	}
}

func TestVolume(t *testing.T) {
	beside := map[string]string{"access.yaml": "admins: [ann]\n", "long-name-of-a-policy.cedar": strings.Repeat("// a policy\n", 3000), "tls.key": "k", "access/ops.cedar": "// y\n", "meta-data": "x", "vendor-data": "x"}
	for _, kind := range []string{"12", "16", "32", "iso", "joliet"} {
		for main, text := range map[string]string{"sallyport.yaml": sample, "user-data": "#cloud-config\nsallyport:\n  listen: {vnet: hub}\n"} {
			t.Run(kind+" "+main, func(t *testing.T) {
				m := machine(t.TempDir())
				m.put(t, "sys/class/block/sr0/x", "") // without a medium
				m.put(t, "sys/class/block/vda/x", "") // something else
				m.put(t, "dev/vda", strings.Repeat("\x00", 64<<10))
				m.put(t, "sys/class/block/vdb/x", "")
				files := maps.Clone(beside)
				files[main] = text
				makeVolume(t, filepath.Join(string(m), "dev/vdb"), kind, "cidata", files)
				d, err := Local(string(m), ReadVolume)
				if err != nil {
					t.Fatal(err)
				}
				if d.From != "CIDATA volume vdb, "+main || len(d.Files) != 4 || string(d.Files["tls.key"]) != "k" || string(d.Files["access/ops.cedar"]) != "// y\n" || string(d.Files["access.yaml"]) != beside["access.yaml"] ||
					string(d.Files["long-name-of-a-policy.cedar"]) != beside["long-name-of-a-policy.cedar"] {
					t.Errorf("%s: %q", d.From, d.Files)
				}
				if want := map[string]string{"user-data": "\n\n  listen: {vnet: hub}\n"}[main]; want != "" && want != string(d.Config) || want == "" && string(d.Config) != text {
					t.Errorf("%q", d.Config)
				}
			})
		}
	}
}

// FuzzVolume spoils a sound volume at one place. Whatever it says then, reading ends, with bounded files.
func FuzzVolume(f *testing.F) {
	var sound [][]byte
	for _, kind := range []string{"12", "16", "32", "iso"} {
		path := filepath.Join(f.TempDir(), "image")
		makeVolume(f, path, kind, "CIDATA", map[string]string{"user-data": "#cloud-config\nsallyport: {}\n", "access/long-name-of-a-policy.cedar": strings.Repeat("// a policy\n", 300)})
		image, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		sound = append(sound, image)
	}
	f.Add(byte(0), uint32(11), []byte{0xff})
	f.Add(byte(1), uint32(512), []byte{2, 0, 2, 0})
	f.Add(byte(2), uint32(0x24), []byte{1, 0, 0, 0})
	f.Add(byte(3), uint32(isoAt+156), []byte{0, 1, 2, 3})
	f.Fuzz(func(t *testing.T, kind byte, at uint32, patch []byte) {
		image := sound[int(kind)%len(sound)]
		begin := int(at) % len(image)
		file := spoiled{bytes.NewReader(image), int64(begin), patch[:min(len(patch), len(image)-begin, 4<<10)]}
		k := labelled(&file)
		if k == "" {
			return
		}
		d, err := readVolume(&file, k, "volume")
		if err == nil && (len(d.Config) > MaxDocument || len(d.Files) > maxNames) {
			t.Fatal("more than is read")
		}
	})
}

// TestHostileVolume: what a volume says of itself leads neither to an endless loop nor to more memory than it is worth.
func TestHostileVolume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	makeVolume(t, path, "iso", "CIDATA", map[string]string{"user-data": sample, "access/a.yaml": "admins: []\n"})
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const block = 2048
	le := binary.LittleEndian
	root := int(le.Uint32(sound[isoAt+156+2:])) * block
	for name, spoil := range map[string]func(b []byte){
		// The root folder's entry of itself goes on elsewhere (SUSP §5.1), and that goes on there.
		"in a circle": func(b []byte) {
			ce := root + 34 + bytes.Index(b[root+34:root+int(b[root])], []byte("CE\x1c\x01"))
			at := int(le.Uint32(b[ce+4:]))*block + int(le.Uint32(b[ce+12:]))
			le.PutUint32(b[ce+20:], 28)
			copy(b[at:], b[ce:ce+28])
		},
		"a large folder": func(b []byte) {
			for at := root; ; at += int(b[at]) {
				if b[at+25]&2 != 0 && b[at+32] > 1 { // the first folder that is not itself or its parent
					folder := int(le.Uint32(b[at+2:])) * block
					le.PutUint32(b[at+10:], 1<<30)
					le.PutUint32(b[folder+10:], 1<<30)
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := bytes.Clone(sound)
			spoil(b)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if d, err := ReadVolume(f, "volume"); err == nil || !strings.Contains(err.Error(), errTooMuch.Error()) {
				t.Errorf("%+v, %v", d, err)
			}
		})
	}
}

// spoiled is an image with other bytes at one place.
type spoiled struct {
	*bytes.Reader
	begin int64
	patch []byte
}

func (s *spoiled) ReadAt(b []byte, at int64) (int, error) {
	n, err := s.Reader.ReadAt(b, at)
	for i := range s.patch {
		if p := s.begin + int64(i) - at; p >= 0 && p < int64(n) {
			b[p] = s.patch[i]
		}
	}
	return n, err
}

func (s *spoiled) Stat() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }
func (s *spoiled) Close() error               { return nil }
