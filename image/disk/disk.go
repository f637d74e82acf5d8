// Package disk makes the appliance's disks: a GUID partition table with one EFI system partition, and the forms in which
// clouds want it. It needs no root, no loop device and no other program, but for qcow2.
//
//	err := disk.Write("disk.raw", disk.Layout{Files: files})
//	err = disk.VHD("disk.vhd", "disk.raw")
package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

// The disk's GUIDs are fixed: the same input gives the same disk, and PID 1 knows it by them.
const (
	DiskGUID = "7A5F2C1E-0D3B-4E6A-9C41-53414C4C5931"
	ESPGUID  = "7A5F2C1E-0D3B-4E6A-9C41-53414C4C5932"
)

const (
	// ESPSize has room for two images and the one that is being written, of 32 MiB each, and for the boot loader.
	ESPSize = 128 << 20
	mib     = 1 << 20
	sector  = 512
	label   = "SALLYPORT"
)

// A File is one in the EFI system partition.
type File struct {
	Path string // EFI/BOOT/BOOTX64.EFI
	Data []byte
}

// A Layout is what a disk has.
type Layout struct {
	Files []File
	Time  time.Time // of the files; FAT has none before 1980
}

// epoch guards the environment, which is where go-diskfs takes the files' time from.
var epoch sync.Mutex

// Write makes the file name, a disk of ESPSize and 1 MiB before and after it, sparse where the file system can do that.
func Write(name string, l Layout) (err error) {
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	const size = ESPSize + 2*mib
	if err := out.Truncate(size); err != nil {
		return err
	}
	b := file.New(out, false)
	w, err := b.Writable()
	if err != nil {
		return err
	}
	table := gpt.Table{
		GUID: DiskGUID, ProtectiveMBR: true, LogicalSectorSize: sector, PhysicalSectorSize: sector,
		Partitions: []*gpt.Partition{{
			Index: 1, Start: mib / sector, End: (mib+ESPSize)/sector - 1, Type: gpt.EFISystemPartition, Name: "ESP", GUID: ESPGUID,
		}},
	}
	if err := table.Write(w, size); err != nil {
		return fmt.Errorf("partition table: %w", err)
	}
	if err := writeESP(b, l); err != nil {
		return fmt.Errorf("EFI system partition: %w", err)
	}
	return nil
}

func writeESP(b backend.Storage, l Layout) error {
	epoch.Lock()
	defer epoch.Unlock()
	const variable = "SOURCE_DATE_EPOCH"
	before, had := os.LookupEnv(variable)
	os.Setenv(variable, strconv.FormatInt(l.Time.Unix(), 10))
	defer func() {
		os.Unsetenv(variable)
		if had {
			os.Setenv(variable, before)
		}
	}()
	esp, err := fat32.Create(b, ESPSize, mib, sector, label, true)
	if err != nil {
		return err
	}
	for _, f := range l.Files {
		dir := ""
		for part := range strings.SplitSeq(path.Dir(f.Path), "/") {
			dir = path.Join(dir, part)
			if _, err := esp.Stat(dir); err != nil {
				if err := esp.Mkdir(dir); err != nil {
					return fmt.Errorf("%s: %w", dir, err)
				}
			}
		}
		out, err := esp.OpenFile(f.Path, os.O_CREATE|os.O_RDWR)
		if err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		if _, err := out.Write(f.Data); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
		if err := out.Close(); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if err := esp.Close(); err != nil {
		return err
	}
	return parents(b)
}

// parents mends the root's folders: go-diskfs writes the root's number into their "..", where fsck.fat and Microsoft's
// "FAT32 File System Specification" want zero.
func parents(b backend.Storage) error {
	w, err := b.Writable()
	if err != nil {
		return err
	}
	var boot [sector]byte
	if _, err := b.ReadAt(boot[:], mib); err != nil {
		return err
	}
	le := binary.LittleEndian
	cluster := int64(boot[13]) * sector
	data := mib + sector*(int64(le.Uint16(boot[14:]))+int64(boot[16])*int64(le.Uint32(boot[36:])))
	at := func(number uint32) int64 { return data + int64(number-2)*cluster }

	const entry, attributes, high, low, folder, longName = 32, 11, 20, 26, 0x10, 0x0f
	root := make([]byte, cluster) // which has all of the root: a few folders
	if _, err := b.ReadAt(root, at(le.Uint32(boot[44:]))); err != nil {
		return err
	}
	for e := range slices.Chunk(root, entry) {
		if e[attributes] == longName || e[attributes]&folder == 0 {
			continue
		}
		place := at(uint32(le.Uint16(e[high:]))<<16|uint32(le.Uint16(e[low:]))) + entry
		var parent [entry]byte
		if _, err := b.ReadAt(parent[:], place); err != nil {
			return err
		}
		if string(parent[:3]) != ".. " {
			return errors.New("a folder of the root has no parent")
		}
		le.PutUint16(parent[high:], 0)
		le.PutUint16(parent[low:], 0)
		if _, err := w.WriteAt(parent[:], place); err != nil {
			return err
		}
	}
	return nil
}

// A Contents is what Read finds on a disk.
type Contents struct {
	Partitions []Partition
	Files      []File // of the EFI system partition
}

// A Partition is a line of the partition table. Start and Size are in bytes.
type Partition struct {
	Name, GUID, Type string
	Start, Size      int64
}

// limits of what Read takes from a disk that is not ours
const (
	maxFiles = 1000
	maxFile  = 256 << 20
)

// Read reads a raw disk. A fixed VHD is one too, with something behind it.
func Read(name string) (*Contents, error) {
	in, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b := file.New(in, true)
	table, err := gpt.Read(b, sector, sector)
	if err != nil {
		return nil, fmt.Errorf("%s: no GUID partition table: %w", name, err)
	}
	c := new(Contents)
	for _, p := range table.Partitions {
		if p.Type == gpt.Unused {
			continue
		}
		c.Partitions = append(c.Partitions, Partition{p.Name, p.GUID, string(p.Type), p.GetStart(), p.GetSize()})
		if p.Type != gpt.EFISystemPartition {
			continue
		}
		esp, err := fat32.Read(b, p.GetSize(), p.GetStart(), sector)
		if err != nil {
			return nil, fmt.Errorf("%s: EFI system partition: %w", name, err)
		}
		if err := readFiles(esp, c); err != nil {
			return nil, fmt.Errorf("%s: EFI system partition: %w", name, err)
		}
	}
	return c, nil
}

func readFiles(esp *fat32.FileSystem, c *Contents) error {
	return fs.WalkDir(esp, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return nil
		}
		f, err := esp.Open(name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(data) > maxFile || len(c.Files) == maxFiles {
			return fmt.Errorf("%s: more than %d files, or one of more than %d bytes", name, maxFiles, maxFile)
		}
		c.Files = append(c.Files, File{name, data})
		return nil
	})
}
