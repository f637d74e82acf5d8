package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// Label is that of the data's file system.
const Label = "SALLYPORT-DATA"

// MostData bounds the time of the first start: 64 GiB are made in a few seconds, and no state comes near it.
const MostData = 64 << 10 * mib

// Names of the data partition in the GPT.
const (
	dataName = "sallyport-data"
	newName  = "sallyport-data-new" // until its file system is there
)

const (
	sector = 512
	mib    = 1 << 20

	// leastData is what a database, a year's audit log of a small appliance and an update's spool want.
	leastData = 64 * mib

	maxTable = mib // bytes of a GPT's entries; 16 KiB is usual
)

var (
	// ErrNoRoom means that the image's disk has no room for a data partition.
	ErrNoRoom = errors.New("the disk has no room for data")

	// ErrDamaged means that the data partition cannot be used and must not be replaced.
	ErrDamaged = errors.New("the data partition is damaged")

	// ErrNoDisk means that there is neither a data partition nor a disk that one could be made on: the machine has not been
	// started from one.
	ErrNoDisk = errors.New("there is no disk for data")

	// ErrNotMade means that there is no data partition yet, and that a Wish did not have one made.
	ErrNotMade = errors.New("there is no data partition yet")

	// ErrAbsent means that a disk is missing on which the data is or may be: the one that the machine has been started from,
	// or one that somebody has attached before, or is going to.
	ErrAbsent = errors.New("the disk with the data is not there")

	// ErrUnreadable means that a disk cannot be read that may have the data.
	ErrUnreadable = errors.New("a disk cannot be read")

	// ErrSeveral means that there are two disks of which only one can be meant.
	ErrSeveral = errors.New("several disks look alike")
)

// A device is a disk, or a file that stands for one.
type device interface {
	backend.WritableFile
	Sync() error
}

var errNoTable = errors.New("no GPT")

// readTable reads a disk's GPT, or its backup. The error is errNoTable where there is none, and ErrUnreadable where that is
// not known. The library was written for sound tables: what it does not survive is none.
func readTable(f backend.File, size int64) (t *gpt.Table, err error) {
	if size < 3*sector { // the MBR and two headers
		return nil, errNoTable
	}
	primary, absurd, err := header(f, sector)
	if err != nil {
		return nil, err
	}
	backup, absurdToo, err := header(f, size-sector)
	if err != nil {
		return nil, err
	}
	if !primary && !backup || absurd || absurdToo {
		return nil, errNoTable
	}
	defer func() {
		if r := recover(); r != nil {
			t, err = nil, fmt.Errorf("%w: %v", errNoTable, r)
		}
	}()
	watched := &watchedFile{File: f}
	t, err = gpt.Read(watched, sector, sector)
	if watched.failed != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, watched.failed)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoTable, err)
	}
	return t, nil
}

// A watchedFile notes that the disk could not be read, which the library takes for a table that is not sound.
type watchedFile struct {
	backend.File
	failed error
}

func (w *watchedFile) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, io.EOF // a table wants it; it is nowhere on the disk
	}
	n, err := w.File.ReadAt(b, off)
	if err != nil && !errors.Is(err, io.EOF) {
		w.failed = err
	}
	return n, err
}

// header says whether a sector is the header of a GPT (UEFI 2.10, table 5.5), and whether that wants a table that nobody
// makes and whose size should not be believed.
func header(r io.ReaderAt, off int64) (there, absurd bool, err error) {
	b := make([]byte, sector)
	if _, err := r.ReadAt(b, off); err != nil {
		return false, false, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if string(b[:8]) != "EFI PART" {
		return false, false, nil
	}
	count, size := binary.LittleEndian.Uint32(b[80:]), binary.LittleEndian.Uint32(b[84:])
	return true, size != gpt.PartitionEntrySize || count == 0 || count > maxTable/gpt.PartitionEntrySize, nil
}

func sizeOf(f io.Seeker) (int64, error) { return f.Seek(0, io.SeekEnd) }

// named finds a partition.
func named(t *gpt.Table, name string) *gpt.Partition {
	for _, p := range t.Partitions {
		if p.Type != gpt.Unused && p.Name == name {
			return p
		}
	}
	return nil
}

// byGUID finds a partition by its own GUID, in any case.
func byGUID(t *gpt.Table, guid string) *gpt.Partition {
	for _, p := range t.Partitions {
		if p.Type != gpt.Unused && strings.EqualFold(p.GUID, guid) {
			return p
		}
	}
	return nil
}

func offset(p *gpt.Partition) int64 { return int64(p.Start) * sector }
func length(p *gpt.Partition) int64 { return int64(p.End-p.Start+1) * sector }

// inside says whether a partition lies on a disk of that size, as its table says and nobody has checked.
func inside(p *gpt.Partition, size int64) bool {
	return p.Start <= p.End && p.End < uint64(size/sector)
}

// settle sees to it that the disk with this table has a data partition with a file system, and returns it; made says that
// there was none. It has most bytes at most; where that is 0 none is made.
func settle(dev device, t *gpt.Table, most int64) (p *gpt.Partition, made bool, err error) {
	size, err := sizeOf(dev)
	if err != nil {
		return nil, false, err
	}
	if t.RecoveredFromBackup {
		if err := t.Write(dev, size); err != nil {
			return nil, false, err
		}
	}
	if p = named(t, dataName); p != nil {
		ours, err := hasData(dev, p, size)
		if err != nil {
			return nil, false, err
		}
		if !ours {
			return nil, false, fmt.Errorf("%w: partition %d has no file system %s", ErrDamaged, p.Index, Label)
		}
		return p, false, nil
	}
	if p = named(t, newName); p == nil {
		if most == 0 {
			return nil, false, ErrNotMade
		}
		if p, err = add(t, size, most); err != nil {
			return nil, false, err
		}
		if err := t.Write(dev, size); err != nil {
			return nil, false, fmt.Errorf("write the GPT: %w", err)
		}
	}
	ours, err := hasData(dev, p, size)
	if err != nil {
		return nil, false, err
	}
	if !ours && most == 0 {
		return nil, false, ErrNotMade
	}
	if !ours {
		made = true
		if err := format(dev, offset(p), length(p)); err != nil {
			return nil, false, fmt.Errorf("make the file system: %w", err)
		}
	}
	p.Name = dataName
	if err := t.Write(dev, size); err != nil {
		return nil, false, fmt.Errorf("write the GPT: %w", err)
	}
	return p, made, nil
}

// hasData says whether a partition has the data's file system.
func hasData(r io.ReaderAt, p *gpt.Partition, size int64) (bool, error) {
	if !inside(p, size) {
		return false, fmt.Errorf("%w: partition %d lies beyond the end of the disk", ErrDamaged, p.Index)
	}
	fs, err := probe(r, offset(p))
	return fs.ours(), err
}

// elsewhere is set in the attributes of the image's EFI system partition (UEFI 2.10, table 5.7: bits 48 to 63 are for the
// partition's type) once the data has been on a disk of its own: from then on that is waited for.
const elsewhere = 1 << 48

// add adds the data partition of most bytes at most behind the last one, in a table that is made to fit the disk.
func add(t *gpt.Table, size, most int64) (*gpt.Partition, error) {
	const align = mib / sector
	t.Resize(uint64(size))
	var last uint64
	index := 1
	for _, p := range t.Partitions {
		if p.Type != gpt.Unused {
			last, index = max(last, p.End), max(index, p.Index+1)
		}
	}
	start := (last + align) / align * align // the first after last
	end := (t.LastDataSector()+1)/align*align - 1
	if end < start || (end-start+1)*sector < leastData {
		return nil, fmt.Errorf("%w: behind the image are %d MiB, and %d are needed", ErrNoRoom, max(int64(end+1)-int64(start), 0)*sector/mib, leastData/mib)
	}
	end = min(end, start+uint64(max(most, leastData))/sector-1)
	p := &gpt.Partition{Index: index, Start: start, End: end, Size: (end - start + 1) * sector, Type: gpt.LinuxFilesystem, Name: newName}
	t.Partitions = append(t.Partitions, p)
	return p, nil
}
