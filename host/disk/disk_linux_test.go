package disk

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// machine is a machine's sysfs and devices, whose disks are files and loop devices.
type machine struct {
	t *testing.T
	Disks
}

func newMachine(t *testing.T) *machine {
	m := &machine{t, Disks{Sys: t.TempDir(), Dev: t.TempDir(), Patience: 50 * time.Millisecond}}
	m.mkdir("class/block")
	return m
}

func (m *machine) mkdir(parts ...string) string {
	dir := filepath.Join(append([]string{m.Sys}, parts...)...)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		m.t.Fatal(err)
	}
	return dir
}

// disk gives the machine a disk, by a name of the kernel's.
func (m *machine) disk(name, target string) {
	m.mkdir("class/block", name)
	if err := os.Symlink(target, filepath.Join(m.Dev, name)); err != nil {
		m.t.Fatal(err)
	}
}

// partition has the kernel know of a part of a disk.
func (m *machine) partition(name, target string, start, size int64) {
	m.disk(name, target)
	dir := m.mkdir("class/block", name)
	for file, n := range map[string]int64{"start": start / sector, "size": size / sector} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(strconv.FormatInt(n, 10)+"\n"), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
}

// loop makes a device of a part of a file.
func (m *machine) loop(file string, start, size int64) string {
	m.t.Helper()
	args := []string{"--find", "--show", "--offset", strconv.FormatInt(start, 10)}
	if size > 0 {
		args = append(args, "--sizelimit", strconv.FormatInt(size, 10))
	}
	out, err := exec.Command("losetup", append(args, file)...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("losetup: %v: %s", err, out)
	}
	device := strings.TrimSpace(string(out))
	m.t.Cleanup(func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			m.t.Errorf("losetup: %v: %s", err, out)
		}
	})
	return device
}

// labelled is a file with a file system of mke2fs's.
func labelled(t *testing.T, label string) string {
	file := filepath.Join(t.TempDir(), "second.img")
	if out, err := exec.Command("mke2fs", "-q", "-t", "ext4", "-L", label, file, "64M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
	return file
}

// TestMount mounts what was made, by the kernel, and writes to it until it is full.
func TestMount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts a file system: needs root")
	}
	m := newMachine(t)
	f := image(t, 36*mib+80*mib)
	m.ESP = strings.ToLower(espGUID)
	m.disk("vda", f.Name())
	m.partition("vda2", m.loop(f.Name(), 35*mib, 80*mib), 35*mib, 80*mib)
	folder := t.TempDir()
	for _, made := range []bool{true, false} {
		data, err := m.MountData(folder)
		if err != nil || data.Made != made || filepath.Base(data.Device) != "vda2" || len(data.Notes) > 0 {
			t.Fatalf("%+v, %v", data, err)
		}
		var s unix.Statfs_t
		if err := unix.Statfs(folder, &s); err != nil || s.Flags&(unix.ST_NOSUID|unix.ST_NODEV|unix.ST_NOEXEC) != unix.ST_NOSUID|unix.ST_NODEV|unix.ST_NOEXEC {
			t.Errorf("mounted with %#x, %v", s.Flags, err)
		}
		if s.Bfree == s.Bavail {
			t.Error("nothing is left for root")
		}
		if made {
			fill(t, filepath.Join(folder, "full"))
		} else if info, err := os.Stat(filepath.Join(folder, "full")); err != nil || info.Size() < 40*mib {
			t.Errorf("after the second start: %v, %v", info, err)
		}
		if err := unix.Unmount(folder, 0); err != nil {
			t.Fatal(err)
		}
	}
	size, err := sizeOf(f)
	if err != nil {
		t.Fatal(err)
	}
	table, err := readTable(f, size)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, f, named(table, dataName))
}

func fill(t *testing.T, name string) {
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, mib))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("full: %v", err)
	}
}

// TestCorrupt: a file system that the kernel does not take is not replaced.
func TestCorrupt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts a file system: needs root")
	}
	file := labelled(t, Label)
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 64<<10), 2048); err != nil { // the group descriptors
		t.Fatal(err)
	}
	m := newMachine(t)
	m.disk("sdb", m.loop(file, 0, 0))
	if _, err := m.MountData(t.TempDir()); !errors.Is(err, ErrDamaged) {
		t.Errorf("mounted: %v", err)
	}
	if !probe(f, 0).ours() {
		t.Error("its label is gone")
	}
}

// TestWhich disk the data is on.
func TestWhich(t *testing.T) {
	ours, others := labelled(t, Label), labelled(t, "PHOTOS")
	noted := labelled(t, Label)
	if out, err := exec.Command("debugfs", "-w", "-R", "ssv state 2", noted).CombinedOutput(); err != nil {
		t.Fatalf("debugfs: %v: %s", err, out)
	}
	for name, c := range map[string]struct {
		image bool
		disks map[string]string
		want  string
		err   error
	}{
		"no disk at all":        {false, nil, "", ErrNoDisk},
		"another's only":        {false, map[string]string{"sdb": others}, "", ErrNoDisk},
		"a second one":          {true, map[string]string{"sdb": ours, "sdc": others}, "sdb", nil},
		"NVMe, without image":   {false, map[string]string{"nvme1n1": ours}, "nvme1n1", nil},
		"two":                   {true, map[string]string{"sdb": ours, "sdc": noted}, "", ErrSeveral},
		"none but the image's":  {true, map[string]string{"sdb": others}, "vda2", nil},
		"a loop device is none": {false, map[string]string{"loop0": ours}, "", ErrNoDisk},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			if c.image {
				f := image(t, 128*mib)
				m.ESP = strings.ToLower(espGUID)
				m.disk("vda", f.Name())
				m.partition("vda2", f.Name(), 35*mib, 92*mib)
			}
			for name, file := range c.disks {
				m.disk(name, file)
			}
			at, made, err := m.data()
			if !errors.Is(err, c.err) || at.name != c.want || made != (c.want == "vda2") {
				t.Errorf("%q, made %v, %v", at.name, made, err)
			}
		})
	}
	m := newMachine(t)
	m.disk("sdb", noted)
	if at, _, err := m.data(); err != nil || !at.fs.flawed {
		t.Errorf("errors that the kernel has noted are not: %+v, %v", at, err)
	}
}

// TestTwins: of two disks with the same image none is chosen.
func TestTwins(t *testing.T) {
	m := newMachine(t)
	m.ESP = espGUID
	m.disk("vda", image(t, 128*mib).Name())
	m.disk("vdb", image(t, 128*mib).Name())
	if _, _, err := m.data(); !errors.Is(err, ErrSeveral) {
		t.Error(err)
	}
	m = newMachine(t)
	m.ESP = espGUID
	m.disk("vda", labelled(t, "PHOTOS"))
	if _, _, err := m.data(); !errors.Is(err, ErrNoDisk) {
		t.Errorf("without the image's disk: %v", err)
	}
	m.disk("vdb", image(t, 128*mib).Name())
	m.partition("vdb2", "nowhere", 35*mib, 64*mib)
	if _, _, err := m.data(); err == nil || !strings.Contains(err.Error(), "another size") {
		t.Errorf("a partition that the kernel has otherwise: %v", err)
	}
}
