package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/filesystem/ext4"
)

// Of an ext4 superblock (Linux, Documentation/filesystems/ext4/super.rst).
const (
	superblock   = 1024 // where it begins
	magicOffset  = 0x38
	stateOffset  = 0x3a
	labelOffset  = 0x78
	labelLength  = 16
	errorsOffset = 0x194

	ext4Magic = 0xef53
	hasErrors = 2 // in the state
)

// A fileSystem is what a superblock says.
type fileSystem struct {
	label   string
	errors  uint32 // that the kernel has seen in it
	flawed  bool   // and has noted in its state
	present bool
}

func (s fileSystem) ours() bool { return s.present && s.label == Label }

// probe reads the superblock of an ext4 file system that begins at off. What is none, or does not fit in what there is, is
// not present. What cannot be read is an error: it may be the one with the data.
func probe(r io.ReaderAt, off int64) (fileSystem, error) {
	b := make([]byte, 1024)
	_, err := r.ReadAt(b, off+superblock)
	if errors.Is(err, io.EOF) {
		return fileSystem{}, nil
	}
	if err != nil {
		return fileSystem{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if binary.LittleEndian.Uint16(b[magicOffset:]) != ext4Magic {
		return fileSystem{}, nil
	}
	label, _, _ := bytes.Cut(b[labelOffset:labelOffset+labelLength], []byte{0})
	return fileSystem{label: string(label), present: true, errors: binary.LittleEndian.Uint32(b[errorsOffset:]),
		flawed: binary.LittleEndian.Uint16(b[stateOffset:])&hasErrors != 0}, nil
}

// format makes an ext4 file system of the length at off. The sector with its magic number and label is written when all
// else is on the disk.
func format(dev device, off, length int64) error {
	h := &held{dev: dev, off: off, size: length, head: make([]byte, heldBack)}
	// An earlier attempt, or what was there before, must not lend its superblock to a half-made file system.
	if err := h.clear(); err != nil {
		return err
	}
	_, err := ext4.Create(h, length, 0, sector, &ext4.Params{
		VolumeName:            Label,
		SectorsPerBlock:       block / sector,
		InodeCount:            inodes(length),
		ReservedBlocksPercent: 5, // for root: a worker that fills the disk leaves the parent some room
		// Checksums have the kernel see what a bad disk has changed. Room for a larger table of groups cannot be made with
		// blocks of this size.
		Features: []ext4.FeatureOpt{ext4.WithFeatureMetadataChecksums(true), ext4.WithFeatureReservedGDTBlocksForExpansion(false)},
	})
	if err != nil {
		return err
	}
	return h.commit()
}

const (
	block      = 4096      // as pages are
	perGroup   = block * 8 // blocks: as many as one block has bits
	inodeSize  = 256
	inodeRatio = 64 << 10 // bytes of the file system for each inode: a state has few files, and the tables are written now
)

// inodes is how many inodes a file system of a length gets. In each of its groups they fill whole blocks: the kernel takes
// the number of blocks for rounded down, and a group that has half a block more for damaged, as soon as it looks at it.
func inodes(length int64) uint32 {
	const inBlock = block / inodeSize
	groups := (length/block + perGroup - 1) / perGroup
	each := (length/inodeRatio/groups + inBlock) / inBlock * inBlock
	return uint32(groups * each)
}

// heldBack is what of the file system's beginning is written last: its first block.
const heldBack = 4096

// A held is a part of a device whose first block stays in memory until commit. It is a backend.Storage.
type held struct {
	dev       device
	off, size int64
	head      []byte
	pos       int64
}

func (h *held) clear() error {
	if _, err := h.dev.WriteAt(make([]byte, heldBack), h.off); err != nil {
		return err
	}
	return h.dev.Sync()
}

// commit writes the first block: first without the sector that makes it a file system, then that.
func (h *held) commit() error {
	const first, last = superblock, superblock + sector
	for _, part := range [][2]int{{0, first}, {last, heldBack}} {
		if _, err := h.dev.WriteAt(h.head[part[0]:part[1]], h.off+int64(part[0])); err != nil {
			return err
		}
	}
	if err := h.dev.Sync(); err != nil {
		return err
	}
	if _, err := h.dev.WriteAt(h.head[first:last], h.off+first); err != nil {
		return err
	}
	return h.dev.Sync()
}

func (h *held) ReadAt(b []byte, off int64) (n int, err error) {
	if off < 0 || off >= h.size {
		return 0, io.EOF
	}
	if off < heldBack {
		n = copy(b, h.head[off:])
		b, off = b[n:], off+int64(n)
	}
	if len(b) == 0 {
		return n, nil
	}
	short := int64(len(b)) > h.size-off
	if short {
		b = b[:h.size-off]
	}
	m, err := h.dev.ReadAt(b, h.off+off)
	if err == nil && short {
		err = io.EOF
	}
	return n + m, err
}

func (h *held) WriteAt(b []byte, off int64) (n int, err error) {
	if off < 0 || off+int64(len(b)) > h.size {
		return 0, errors.New("beyond the partition")
	}
	if off < heldBack {
		n = copy(h.head[off:], b)
		b, off = b[n:], off+int64(n)
	}
	if len(b) == 0 {
		return n, nil
	}
	m, err := h.dev.WriteAt(b, h.off+off)
	return n + m, err
}

func (h *held) Read(b []byte) (int, error) {
	n, err := h.ReadAt(b, h.pos)
	h.pos += int64(n)
	return n, err
}

func (h *held) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += h.pos
	case io.SeekEnd:
		off += h.size
	}
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	h.pos = off
	return off, nil
}

func (h *held) Stat() (fs.FileInfo, error)              { return h.dev.Stat() }
func (h *held) Sync() error                             { return h.dev.Sync() }
func (h *held) Close() error                            { return nil }
func (h *held) Path() string                            { return "" }
func (h *held) Sys() (*os.File, error)                  { return nil, backend.ErrNotSuitable }
func (h *held) Writable() (backend.WritableFile, error) { return h, nil }
