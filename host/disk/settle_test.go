package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

const (
	espGUID  = "5A11E900-0000-4000-8000-000000000001"
	diskGUID = "5A11E900-0000-4000-8000-000000000000"
)

// image makes a disk as the builder does: an EFI system partition of 34 MiB, and nothing behind it. Then the disk grows.
func image(t *testing.T, size int64) *os.File {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(t.TempDir(), "disk.raw"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	const small = 36 * mib
	if err := f.Truncate(small); err != nil {
		t.Fatal(err)
	}
	table := &gpt.Table{GUID: diskGUID, ProtectiveMBR: true, LogicalSectorSize: sector, PhysicalSectorSize: sector, Partitions: []*gpt.Partition{
		{Index: 1, Start: mib / sector, Size: 34 * mib, Type: gpt.EFISystemPartition, Name: "esp", GUID: espGUID}}}
	if err := table.Write(f, small); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

// start does what a start of the machine does with its disk.
func start(dev device) (*gpt.Partition, bool, error) {
	size, err := sizeOf(dev)
	if err != nil {
		return nil, false, err
	}
	table, err := readTable(dev, size)
	if err != nil {
		return nil, false, err
	}
	if byGUID(table, strings.ToLower(espGUID)) == nil {
		return nil, false, errors.New("the EFI system partition is gone")
	}
	return settle(dev, table, MostData)
}

// verify asks others whether the disk is as it should be: sgdisk about the GPT, e2fsck about the file system.
func verify(t *testing.T, f *os.File, p *gpt.Partition) {
	t.Helper()
	out, err := exec.Command("sgdisk", "--verify", f.Name()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No problems found") {
		t.Errorf("sgdisk: %v: %s", err, out)
	}
	out, err = exec.Command("e2fsck", "-fn", fmt.Sprintf("%s?offset=%d", f.Name(), offset(p))).CombinedOutput()
	if err != nil {
		t.Errorf("e2fsck: %v: %s", err, out)
	}
}

func TestFirstStart(t *testing.T) {
	for _, size := range []int64{128 * mib, 512 * mib, 3 << 30, 3<<30 + 7*sector} {
		f := image(t, size)
		p, made, err := start(f)
		if err != nil || !made {
			t.Fatalf("%d: made %v, %v", size, made, err)
		}
		if p.Index != 2 || offset(p) != 35*mib || p.Name != dataName || offset(p)+length(p) > size-mib/64 {
			t.Errorf("%d: %+v", size, p)
		}
		verify(t, f, p)
		b := make([]byte, 4)
		if _, err := f.ReadAt(b, offset(p)+superblock+0x28); err != nil || binary.LittleEndian.Uint32(b)%(block/inodeSize) != 0 {
			t.Errorf("%d: %d inodes in a group are no whole blocks, %v", size, binary.LittleEndian.Uint32(b), err)
		}
		// Whatever lies in the file system now stays.
		mark := offset(p) + length(p) - 4096
		if _, err := f.WriteAt([]byte("somebody's"), mark); err != nil {
			t.Fatal(err)
		}
		again, made, err := start(f)
		if err != nil || made || again.Start != p.Start || again.GUID != p.GUID {
			t.Errorf("%d: the second start: made %v, %+v, %v", size, made, again, err)
		}
		b = make([]byte, 10)
		if _, err := f.ReadAt(b, mark); err != nil || string(b) != "somebody's" {
			t.Errorf("%d: %q, %v", size, b, err)
		}
	}
}

func TestNoRoom(t *testing.T) {
	for _, size := range []int64{36 * mib, 35*mib + leastData} {
		f := image(t, size)
		before, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := start(f); !errors.Is(err, ErrNoRoom) {
			t.Errorf("%d: %v", size, err)
		}
		if after, err := os.ReadFile(f.Name()); err != nil || string(after) != string(before) {
			t.Errorf("%d: the disk has changed, %v", size, err)
		}
	}
}

func TestLargest(t *testing.T) {
	f := image(t, 200<<30)
	size, err := sizeOf(f)
	if err != nil {
		t.Fatal(err)
	}
	table, err := readTable(f, size)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := add(table, size, MostData); err != nil || length(p) != MostData {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestDamaged: a data partition without its superblock is not made anew, and one whose GPT is half gone is found.
func TestDamaged(t *testing.T) {
	f := image(t, 128*mib)
	p, _, err := start(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 2*sector), sector); err != nil { // the primary GPT
		t.Fatal(err)
	}
	if _, made, err := start(f); made || err != nil {
		t.Fatalf("without the primary GPT: made %v, %v", made, err)
	}
	verify(t, f, p)
	if _, err := f.WriteAt(make([]byte, 1024), offset(p)+superblock); err != nil {
		t.Fatal(err)
	}
	if _, made, err := start(f); made || !errors.Is(err, ErrDamaged) {
		t.Errorf("without the superblock: made %v, %v", made, err)
	}
}

// TestImageAnew: who writes the image over the disk again keeps the data behind it.
func TestImageAnew(t *testing.T) {
	f := image(t, 128*mib)
	p, _, err := start(f)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := os.ReadFile(image(t, 36*mib).Name())
	if err != nil {
		t.Fatal(err)
	}
	kept := make([]byte, mib) // the image ends within the data
	if _, err := f.ReadAt(kept, 35*mib); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(fresh[:35*mib], 0); err != nil {
		t.Fatal(err)
	}
	again, made, err := start(f)
	if err != nil || made || again.Start != p.Start {
		t.Errorf("made %v, %+v, %v", made, again, err)
	}
	verify(t, f, again)
}

var errCut = errors.New("the power is cut")

// A cutter is a disk whose power is cut at its n-th operation. What was written since the last Sync may be on it or not,
// sector by sector.
type cutter struct {
	*os.File
	n, done int
	rand    *rand.Rand
	pending []write
}

type write struct {
	b   []byte
	off int64
}

func (c *cutter) step() error {
	if c.done++; c.n == 0 || c.done < c.n {
		return nil
	}
	if c.done == c.n {
		for _, w := range c.pending {
			for at := 0; at < len(w.b); at += sector {
				if c.rand.IntN(2) == 0 {
					c.File.WriteAt(w.b[at:min(at+sector, len(w.b))], w.off+int64(at))
				}
			}
		}
		c.pending = nil
	}
	return errCut
}

func (c *cutter) WriteAt(b []byte, off int64) (int, error) {
	c.pending = append(c.pending, write{append([]byte{}, b...), off})
	if err := c.step(); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (c *cutter) Sync() error {
	if err := c.step(); err != nil {
		return err
	}
	return c.flush()
}

func (c *cutter) flush() error {
	for _, w := range c.pending {
		if _, err := c.File.WriteAt(w.b, w.off); err != nil {
			return err
		}
	}
	c.pending = nil
	return nil
}

// ReadAt sees what has been written, on the disk or not.
func (c *cutter) ReadAt(b []byte, off int64) (int, error) {
	if c.n != 0 && c.done >= c.n {
		return 0, errCut
	}
	n, err := c.File.ReadAt(b, off)
	for _, w := range c.pending {
		for i := range w.b {
			if at := w.off + int64(i) - off; at >= 0 && at < int64(n) {
				b[at] = w.b[i]
			}
		}
	}
	return n, err
}

var _ backend.WritableFile = (*cutter)(nil)

// TestCut: wherever the power is cut at the first start, the next one has a sound disk, and has formatted nothing that a
// label was on.
func TestCut(t *testing.T) {
	whole := &cutter{File: image(t, 128*mib)}
	if _, _, err := start(whole); err != nil {
		t.Fatal(err)
	}
	total := whole.done
	t.Logf("%d writes and syncs", total)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range 2 * total {
		n := i%total + 1
		f := image(t, 128*mib)
		c := &cutter{File: f, n: n, rand: r}
		if _, _, err := start(c); err == nil {
			t.Fatalf("cut %d (seed %d): nothing was cut", n, seed)
		}
		had := false
		if size, err := sizeOf(f); err == nil {
			if table, err := readTable(f, size); err == nil && named(table, newName) != nil {
				had = ours(t, f, offset(named(table, newName)))
			}
		}
		p, made, err := start(f)
		if err != nil || had && made {
			t.Fatalf("cut %d (seed %d): had a label %v, made %v, %v", n, seed, had, made, err)
		}
		verify(t, f, p)
		f.Close()
		os.Remove(f.Name())
	}
}

// ours says whether the data's file system begins there.
func ours(t *testing.T, f *os.File, off int64) bool {
	t.Helper()
	fs, err := probe(f, off)
	if err != nil {
		t.Fatal(err)
	}
	return fs.ours()
}

// TestNotMade: what is not wanted is not made, whether or not a start was cut that made it.
func TestNotMade(t *testing.T) {
	f := image(t, 128*mib)
	for _, cut := range []bool{false, true} {
		size, err := sizeOf(f)
		if err != nil {
			t.Fatal(err)
		}
		table, err := readTable(f, size)
		if err != nil {
			t.Fatal(err)
		}
		if cut {
			if _, err := add(table, size, MostData); err != nil {
				t.Fatal(err)
			}
			if err := table.Write(f, size); err != nil {
				t.Fatal(err)
			}
		}
		before, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := settle(f, table, 0); !errors.Is(err, ErrNotMade) {
			t.Errorf("cut %v: %v", cut, err)
		}
		if after, err := os.ReadFile(f.Name()); err != nil || string(after) != string(before) {
			t.Errorf("cut %v: the disk has changed, %v", cut, err)
		}
	}
}

// A deaf disk cannot be read from some place on.
type deaf struct {
	*os.File
	from   int64
	writes int
}

var errDeaf = errors.New("medium error")

func (d *deaf) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) > d.from {
		return 0, errDeaf
	}
	return d.File.ReadAt(b, off)
}

func (d *deaf) WriteAt(b []byte, off int64) (int, error) {
	d.writes++
	return d.File.WriteAt(b, off)
}

// TestUnreadable: what cannot be read is neither missing nor new.
func TestUnreadable(t *testing.T) {
	f := image(t, 128*mib)
	size, err := sizeOf(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []int64{0, sector, 2 * sector, size - 100} { // the MBR, the header, the entries, the backup
		if _, err := readTable(&deaf{File: f, from: from}, size); !errors.Is(err, ErrUnreadable) || errors.Is(err, errNoTable) {
			t.Errorf("unreadable from %d on: %v", from, err)
		}
	}
	for _, whole := range []bool{false, true} {
		table, err := readTable(f, size)
		if err != nil {
			t.Fatal(err)
		}
		if whole {
			if _, _, err := settle(f, table, MostData); err != nil {
				t.Fatal(err)
			}
		} else if _, err := add(table, size, MostData); err != nil {
			t.Fatal(err)
		}
		d := &deaf{File: f, from: 35 * mib}
		if _, _, err := settle(d, table, MostData); !errors.Is(err, ErrUnreadable) || errors.Is(err, ErrDamaged) || d.writes > 0 {
			t.Errorf("whole %v: %v, and %d writes", whole, err, d.writes)
		}
	}
}

// TestDiskFails: an error of the disk is told.
func TestDiskFails(t *testing.T) {
	f := image(t, 128*mib)
	readonly, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer readonly.Close()
	if _, _, err := start(readonly); err == nil {
		t.Error("a disk that cannot be written is settled")
	}
}

// FuzzTable: a disk of anybody's making does no harm when it is looked at.
func FuzzTable(f *testing.F) {
	table := &gpt.Table{GUID: diskGUID, ProtectiveMBR: true, LogicalSectorSize: sector, PhysicalSectorSize: sector, Partitions: []*gpt.Partition{
		{Index: 1, Start: 40, Size: 8 * sector, Type: gpt.EFISystemPartition, Name: "esp", GUID: espGUID}}}
	name := filepath.Join(f.TempDir(), "disk")
	if err := os.WriteFile(name, make([]byte, 128*sector), 0o600); err != nil {
		f.Fatal(err)
	}
	d, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		f.Fatal(err)
	}
	if err := errors.Join(table.Write(d, 128*sector), d.Close()); err != nil {
		f.Fatal(err)
	}
	seed, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(append([]byte{}, seed[:4*sector]...))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := memory{Reader: strings.NewReader(string(b))}
		probe(m, 0)
		table, err := readTable(m, int64(len(b)))
		if err != nil {
			return
		}
		for _, p := range table.Partitions {
			probe(m, offset(p))
		}
		byGUID(table, espGUID)
		named(table, dataName)
		add(table, 1<<40, MostData)
	})
}

// TestHostileTable: a disk of somebody's with a table that is wrong, and whose checksums are right, is one without data.
func TestHostileTable(t *testing.T) {
	const size, entries, array = 128 * sector, 2 * sector, 32 * sector
	m := newMachine(t)
	name := filepath.Join(t.TempDir(), "disk")
	m.disk("sdb", name)
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	taken := 0
	for range 500 {
		b := make([]byte, size)
		h := b[sector : 2*sector]
		copy(h, "EFI PART\x00\x00\x01\x00\x5c\x00\x00\x00")
		le := binary.LittleEndian
		for at, n := range map[int]uint64{24: 1, 32: 127, 40: 34, 48: 94, 72: 2} {
			if r.IntN(8) == 0 {
				n = r.Uint64() >> r.IntN(64)
			}
			le.PutUint64(h[at:], n)
		}
		le.PutUint32(h[80:], 128)
		le.PutUint32(h[84:], 128)
		for i := range 1 + r.IntN(8) {
			e := b[entries+i*128:][:128]
			for j := range e {
				e[j] = byte(r.Uint32() >> r.IntN(32))
			}
			for _, at := range []int{32, 40} { // where it begins and ends
				le.PutUint64(e[at:], r.Uint64()>>r.IntN(64))
			}
		}
		le.PutUint32(h[88:], crc32.ChecksumIEEE(b[entries:entries+array]))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if at, _, err := m.data(Wish{Make: MostData}); !errors.Is(err, ErrNoDisk) {
			t.Fatalf("seed %d: %+v, %v", seed, at, err)
		}
		if table, err := readTable(memory{Reader: strings.NewReader(string(b))}, size); err == nil && len(table.Partitions) > 0 {
			taken++
		}
	}
	if taken < 50 {
		t.Errorf("seed %d: only %d of the tables are read at all", seed, taken)
	}
}

// memory is a disk that is only read.
type memory struct{ *strings.Reader }

func (memory) Close() error               { return nil }
func (memory) Stat() (fs.FileInfo, error) { return nil, fs.ErrInvalid }
