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

	// mostData bounds the time of the first start: 64 GiB are made in a few seconds, and no state comes near it.
	mostData = 64 << 10 * mib

	maxTable = mib // bytes of a GPT's entries; 16 KiB is usual
)

var (
	// ErrNoRoom means that the image's disk has no room for a data partition.
	ErrNoRoom = errors.New("the disk has no room for data")

	// ErrDamaged means that the data partition cannot be used and must not be replaced.
	ErrDamaged = errors.New("the data partition is damaged")

	// ErrNoDisk means that there is neither a data partition nor a disk that one could be made on.
	ErrNoDisk = errors.New("there is no disk for data")

	// ErrSeveral means that there are two disks of which only one can be meant.
	ErrSeveral = errors.New("several disks look alike")
)

// A device is a disk, or a file that stands for one.
type device interface {
	backend.WritableFile
	Sync() error
}

var errNoTable = errors.New("no GPT")

// readTable reads a disk's GPT, or its backup.
func readTable(f backend.File, size int64) (*gpt.Table, error) {
	primary, absurd := header(f, sector)
	backup, absurdToo := header(f, size-sector)
	if !primary && !backup || absurd || absurdToo {
		return nil, errNoTable
	}
	t, err := gpt.Read(f, sector, sector)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoTable, err)
	}
	return t, nil
}

// header says whether a sector is the header of a GPT (UEFI 2.10, table 5.5), and whether that wants a table that nobody
// makes and whose size should not be believed.
func header(r io.ReaderAt, off int64) (there, absurd bool) {
	b := make([]byte, sector)
	if _, err := r.ReadAt(b, off); err != nil || string(b[:8]) != "EFI PART" {
		return false, false
	}
	count, size := binary.LittleEndian.Uint32(b[80:]), binary.LittleEndian.Uint32(b[84:])
	return true, size != gpt.PartitionEntrySize || count == 0 || count > maxTable/gpt.PartitionEntrySize
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

// settle sees to it that the disk with this table has a data partition with a file system, and returns it; made says that
// there was none.
func settle(dev device, t *gpt.Table) (p *gpt.Partition, made bool, err error) {
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
		if !probe(dev, offset(p)).ours() {
			return nil, false, fmt.Errorf("%w: partition %d has no file system %s", ErrDamaged, p.Index, Label)
		}
		return p, false, nil
	}
	if p = named(t, newName); p == nil {
		if p, err = add(t, size); err != nil {
			return nil, false, err
		}
		if err := t.Write(dev, size); err != nil {
			return nil, false, fmt.Errorf("write the GPT: %w", err)
		}
	}
	if !probe(dev, offset(p)).ours() {
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

// add adds the data partition behind the last one, in a table that is made to fit the disk.
func add(t *gpt.Table, size int64) (*gpt.Partition, error) {
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
	end = min(end, start+mostData/sector-1)
	p := &gpt.Partition{Index: index, Start: start, End: end, Size: (end - start + 1) * sector, Type: gpt.LinuxFilesystem, Name: newName}
	t.Partitions = append(t.Partitions, p)
	return p, nil
}
