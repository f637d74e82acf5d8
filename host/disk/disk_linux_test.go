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
		data, err := m.MountData(folder, Wish{Make: MostData})
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
	if _, err := m.MountData(t.TempDir(), Wish{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("mounted: %v", err)
	}
	if !ours(t, f, 0) {
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
			at, made, err := m.data(Wish{Make: MostData})
			if !errors.Is(err, c.err) || at.name != c.want || made != (c.want == "vda2") {
				t.Errorf("%q, made %v, %v", at.name, made, err)
			}
		})
	}
	m := newMachine(t)
	m.disk("sdb", noted)
	if at, _, err := m.data(Wish{Make: MostData}); err != nil || !at.fs.flawed {
		t.Errorf("errors that the kernel has noted are not: %+v, %v", at, err)
	}
}

// TestTwins: of two disks with the same image none is chosen.
func TestTwins(t *testing.T) {
	m := newMachine(t)
	m.ESP = espGUID
	m.disk("vda", image(t, 128*mib).Name())
	m.disk("vdb", image(t, 128*mib).Name())
	if _, _, err := m.data(Wish{Make: MostData}); !errors.Is(err, ErrSeveral) {
		t.Error(err)
	}
	m = newMachine(t)
	m.ESP = espGUID
	m.disk("vda", labelled(t, "PHOTOS"))
	if _, _, err := m.data(Wish{Make: MostData}); !errors.Is(err, ErrAbsent) || errors.Is(err, ErrNoDisk) {
		t.Errorf("without the image's disk: %v", err)
	}
	m.disk("vdb", image(t, 128*mib).Name())
	m.partition("vdb2", "nowhere", 35*mib, 64*mib)
	if _, _, err := m.data(Wish{Make: MostData}); err == nil || !strings.Contains(err.Error(), "another size") {
		t.Errorf("a partition that the kernel has otherwise: %v", err)
	}
}

// TestLate: without the image's disk, or with one that cannot be read, it is not said that there is no data; when the disk
// is there it is found.
func TestLate(t *testing.T) {
	f := image(t, 128*mib)
	if _, _, err := start(f); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	m.ESP = espGUID
	wait := func(when string, want error) {
		t.Helper()
		for _, w := range []Wish{{}, {Make: MostData}, {Attached: true}} {
			if at, _, err := m.data(w); !errors.Is(err, want) || errors.Is(err, ErrNoDisk) || errors.Is(err, ErrNotMade) || errors.Is(err, ErrNoRoom) {
				t.Errorf("%s: %+v, %v", when, at, err)
			}
		}
	}
	wait("no disk yet", ErrAbsent)
	m.disk("vda", t.TempDir()) // whose reading fails
	wait("an error", ErrUnreadable)
	if err := os.Remove(filepath.Join(m.Dev, "vda")); err != nil {
		t.Fatal(err)
	}
	m.disk("vda", f.Name())
	m.partition("vda2", f.Name(), 35*mib, 92*mib)
	if at, made, err := m.data(Wish{}); at.name != "vda2" || made || err != nil {
		t.Errorf("when it is there: %+v, made %v, %v", at, made, err)
	}
	m.disk("sdb", t.TempDir())
	wait("an error of another, which may be the one with the data", ErrUnreadable)
}

// TestNoTable: an image's disk that has lost both copies of its GPT is waited for, and not written to.
func TestNoTable(t *testing.T) {
	f := image(t, 128*mib)
	if _, _, err := start(f); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{sector, 128*mib - sector} {
		if _, err := f.WriteAt(make([]byte, sector), at); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	m.ESP = espGUID
	m.disk("vda", f.Name())
	if at, _, err := m.data(Wish{Make: MostData}); !errors.Is(err, ErrAbsent) {
		t.Errorf("%+v, %v", at, err)
	}
	if after, err := os.ReadFile(f.Name()); err != nil || string(after) != string(before) {
		t.Errorf("it was written to, %v", err)
	}
}

// TestElsewhere: where the data was on a disk of its own that disk is waited for, also when the image's own has data of an
// earlier time or room for new.
func TestElsewhere(t *testing.T) {
	for _, own := range []string{"room", "data"} {
		t.Run(own, func(t *testing.T) {
			f := image(t, 128*mib)
			if own == "data" {
				if _, _, err := start(f); err != nil {
					t.Fatal(err)
				}
			}
			m := newMachine(t)
			m.ESP = espGUID
			m.disk("vda", f.Name())
			m.partition("vda2", f.Name(), 35*mib, 92*mib)
			if _, _, err := m.data(Wish{Attached: true, Make: MostData}); !errors.Is(err, ErrAbsent) {
				t.Errorf("wanted attached: %v", err)
			}
			m.disk("sdb", labelled(t, Label))
			if at, _, err := m.data(Wish{}); at.name != "sdb" || !at.attached || at.note != "" || err != nil {
				t.Fatalf("%+v, %v", at, err)
			}
			if out, err := exec.Command("sgdisk", "--verify", f.Name()).CombinedOutput(); err != nil || !strings.Contains(string(out), "No problems found") {
				t.Errorf("sgdisk: %v: %s", err, out)
			}
			if err := os.RemoveAll(filepath.Join(m.Sys, "class/block/sdb")); err != nil {
				t.Fatal(err)
			}
			for _, w := range []Wish{{}, {Make: MostData}} {
				if at, _, err := m.data(w); !errors.Is(err, ErrAbsent) {
					t.Errorf("without it: %+v, %v", at, err)
				}
			}
			// As docs/updates.md says.
			if out, err := exec.Command("sgdisk", "--attributes=1:clear:48", f.Name()).CombinedOutput(); err != nil {
				t.Fatalf("sgdisk: %v: %s", err, out)
			}
			if at, made, err := m.data(Wish{Make: MostData}); at.name != "vda2" || at.attached || made != (own == "room") || err != nil {
				t.Errorf("when it is given up: %+v, made %v, %v", at, made, err)
			}
		})
	}
}

// TestOwnPartition: a partition of somebody's own on the image's disk goes before one that would be made.
func TestOwnPartition(t *testing.T) {
	f := image(t, 256*mib)
	if out, err := exec.Command("sgdisk", "--move-second-header", "--new=5:100M:180M", "--change-name=5:mine", f.Name()).CombinedOutput(); err != nil {
		t.Fatalf("sgdisk: %v: %s", err, out)
	}
	b, err := os.ReadFile(labelled(t, Label))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 100*mib); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t)
	m.ESP = espGUID
	m.disk("vda", f.Name())
	m.partition("vda5", f.Name(), 100*mib, 80*mib+sector)
	if at, made, err := m.data(Wish{Make: MostData}); at.name != "vda5" || !at.attached || made || err != nil {
		t.Errorf("%+v, made %v, %v", at, made, err)
	}
}
