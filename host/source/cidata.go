package source

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat12"
	"github.com/diskfs/go-diskfs/filesystem/fat16"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
)

const (
	label     = "CIDATA"
	isoAt     = 32 << 10 // of the first volume descriptor (ECMA-119 §8.1)
	maxVolume = 1 << 30  // bytes; one for a configuration has a few
	maxFAT    = 16 << 20 // bytes of a file allocation table, which is read as a whole
	maxISO    = 1 << 20  // bytes of an ISO's path table and of its root folder
)

// volume has the volume read that is labelled CIDATA, in either case, of the block devices. It is never mounted: what it
// holds reaches no parser of the kernel's.
func volume(root string, read VolumeReader) (Document, error) {
	devices, err := os.ReadDir(filepath.Join(root, "sys/class/block"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Document{}, fmt.Errorf("block devices: %w", err)
	}
	for _, d := range devices {
		f, err := os.Open(filepath.Join(root, "dev", d.Name()))
		if err != nil {
			continue // a drive without a medium
		}
		kind := labelled(f)
		if kind == "" {
			f.Close()
			continue
		}
		doc, err := read(f, "CIDATA volume "+d.Name())
		f.Close()
		return doc, err
	}
	return Document{}, ErrNone
}

// labelled is the kind of file system that has the label, or nothing.
func labelled(f io.ReaderAt) string {
	var b [512]byte
	if n, _ := f.ReadAt(b[:], isoAt); n == len(b) && b[0] == 1 && string(b[1:6]) == "CD001" {
		if isLabel(b[40:72]) {
			return "iso9660"
		}
		return ""
	}
	if n, _ := f.ReadAt(b[:], 0); n < len(b) || b[510] != 0x55 || b[511] != 0xaa {
		return ""
	}
	for _, at := range []struct {
		kind          string
		label, kindAt int
	}{{"fat32", 0x47, 0x52}, {"fat16", 0x2b, 0x36}, {"fat12", 0x2b, 0x36}} {
		if strings.EqualFold(strings.TrimSpace(string(b[at.kindAt:at.kindAt+8])), at.kind) && isLabel(b[at.label:at.label+11]) {
			return at.kind
		}
	}
	return ""
}

func isLabel(b []byte) bool {
	return strings.EqualFold(strings.TrimRight(string(b), " \x00"), label)
}

// A medium is a file system as far as it is needed.
type medium interface {
	ReadDir(path string) ([]fs.DirEntry, error)
	Open(path string) (fs.File, error)
}

// A device is what a volume lies on: an *os.File.
type device interface {
	fs.File
	io.ReaderAt
	io.Seeker
}

// How much of a volume is read: twice what a sound one can have, at once no more than its largest part, and in as many
// pieces as its smallest clusters want.
const (
	maxRead  = 2 * (maxFAT + MaxFiles + maxNames*maxISO/16)
	maxPiece = maxFAT
	maxReads = maxRead / 512
)

var errTooMuch = errors.New("it leads to more reads than a sound one")

// A bounded device ends a library that a volume leads in a circle, or to what is larger than it.
type bounded struct {
	device
	reads, bytes int
}

func (b *bounded) count(p []byte) error {
	if b.reads++; len(p) > maxPiece || b.reads > maxReads {
		return errTooMuch
	}
	if b.bytes += len(p); b.bytes > maxRead {
		return errTooMuch
	}
	return nil
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := b.count(p); err != nil {
		return 0, err
	}
	return b.device.Read(p)
}

func (b *bounded) ReadAt(p []byte, at int64) (int, error) {
	if err := b.count(p); err != nil {
		return 0, err
	}
	return b.device.ReadAt(p, at)
}

// ReadVolume is a VolumeReader that reads in this process.
func ReadVolume(f *os.File, from string) (Document, error) {
	kind := labelled(f)
	if kind == "" {
		return Document{}, fmt.Errorf("%s: it has lost its label", from)
	}
	return readVolume(f, kind, from)
}

// readVolume reads the document and the files beside it. The library was written for sound volumes: what it does not
// survive is an error of this one.
func readVolume(f device, kind, from string) (d Document, err error) {
	defer func() {
		if r := recover(); r != nil {
			d, err = Document{}, fmt.Errorf("%s: not a sound %s volume: %v", from, kind, r)
		}
	}()
	m, err := openVolume(&bounded{device: f}, kind)
	if err != nil {
		return Document{}, fmt.Errorf("%s: %w", from, err)
	}
	names, err := namesIn(m)
	if err != nil {
		return Document{}, fmt.Errorf("%s: %w", from, err)
	}
	main := cmp.Or(find(names, Main), find(names, "user-data"))
	if main == "" {
		return Document{}, fmt.Errorf("%s: it has neither %s nor user-data", from, Main)
	}
	d.From = from + ", " + main
	read := func(name string) (io.ReadCloser, error) { return m.Open(name) }
	r, err := read(main)
	if err != nil {
		return Document{}, fmt.Errorf("%s: %w", d.From, err)
	}
	d.Config, err = readAll(r, d.From, MaxDocument)
	r.Close()
	if err != nil {
		return Document{}, err
	}
	if main == "user-data" {
		if d.Config, err = User(d.Config); err != nil {
			return Document{}, fmt.Errorf("%s: %w", from, err)
		}
	}
	for _, name := range names {
		if name == main || slices.Contains(notOurs, strings.ToLower(name)) || checkName(name) != nil {
			continue
		}
		if err := d.add(name, func() (io.ReadCloser, error) { return read(name) }); err != nil {
			return Document{}, fmt.Errorf("%s: %w", from, err)
		}
	}
	return d, nil
}

// namesIn are the names of the files of the volume, and of those in its folders.
func namesIn(m medium) ([]string, error) {
	entries, err := m.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
			continue
		}
		if checkName(e.Name()) != nil || len(names) > maxNames {
			continue // one of an operating system's own
		}
		inner, err := m.ReadDir(e.Name())
		if err != nil {
			return nil, fmt.Errorf("folder %s: %w", e.Name(), err)
		}
		for _, f := range inner {
			if !f.IsDir() {
				names = append(names, e.Name()+"/"+f.Name())
			}
		}
	}
	return names, nil
}

// notOurs are the files of a cloud-init volume that say nothing to us.
var notOurs = []string{"user-data", "meta-data", "vendor-data", "network-config"}

// find is the name in the list that is the wanted one but for the case, which vfat and ISO 9660 do not keep.
func find(names []string, want string) string {
	i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, want) })
	if i < 0 {
		return ""
	}
	return names[i]
}

// soundFAT bounds what the library would make room for, and refuses a table in which a chain of clusters comes back to
// itself: the library would follow it for ever.
func soundFAT(f io.ReaderAt, kind string, size int64) error {
	var b [64]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return err
	}
	sector, reserved := int(binary.LittleEndian.Uint16(b[11:])), int(binary.LittleEndian.Uint16(b[14:]))
	sectors := int(binary.LittleEndian.Uint16(b[22:]))
	if sectors == 0 {
		sectors = int(binary.LittleEndian.Uint32(b[36:]))
	}
	length := sectors * sector
	if length == 0 || length > maxFAT {
		return fmt.Errorf("its table has %d bytes; 1 to %d are read", length, maxFAT)
	}
	table := make([]byte, length)
	if _, err := f.ReadAt(table, int64(reserved*sector)); err != nil {
		return err
	}
	next := clusters(table, kind)
	if all := int64(len(next)) * int64(b[13]) * int64(sector); all > 2*size+16<<20 {
		return fmt.Errorf("its table is for %d bytes, and it has %d", all, size)
	}
	if circular(next) {
		return errors.New("its table leads in a circle")
	}
	return nil
}

// clusters are the entries of a file allocation table: for each cluster the next (Microsoft FAT specification, "FAT entry").
func clusters(table []byte, kind string) []uint32 {
	var next []uint32
	switch kind {
	case "fat32":
		for i := 0; i+4 <= len(table); i += 4 {
			next = append(next, binary.LittleEndian.Uint32(table[i:])&0x0fffffff)
		}
	case "fat16":
		for i := 0; i+2 <= len(table); i += 2 {
			next = append(next, uint32(binary.LittleEndian.Uint16(table[i:])))
		}
	default:
		for i := 0; i+3 <= len(table); i += 3 {
			both := uint32(table[i]) | uint32(table[i+1])<<8 | uint32(table[i+2])<<16
			next = append(next, both&0xfff, both>>12)
		}
	}
	return next
}

// circular says whether a walk along next from some cluster has no end.
func circular(next []uint32) bool {
	walk := make([]uint32, len(next)) // in which walk each was passed; 0: in none
	for start := range next {
		for at, n := uint32(start), uint32(start)+1; at >= 2 && int(at) < len(next); at = next[at] {
			if walk[at] == n {
				return true
			}
			if walk[at] != 0 {
				break // an earlier walk went on from here, and ended
			}
			walk[at] = n
		}
	}
	return false
}

// openVolume bounds what the library would make room for by what a volume says about itself.
func openVolume(f device, kind string) (medium, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if size > maxVolume {
		return nil, fmt.Errorf("it has %d bytes; at most %d are looked through", size, maxVolume)
	}
	disk := file.New(f, true) // to be read only
	var b [2048]byte
	if kind == "iso9660" {
		if _, err := f.ReadAt(b[:], isoAt); err != nil {
			return nil, err
		}
		if table, folder := binary.LittleEndian.Uint32(b[132:]), binary.LittleEndian.Uint32(b[156+10:]); table > maxISO || folder > maxISO {
			return nil, fmt.Errorf("its path table has %d bytes and its folder %d; at most %d are read", table, folder, maxISO)
		}
		return iso9660.Read(disk, size, 0, 2048)
	}
	if err := soundFAT(f, kind, size); err != nil {
		return nil, err
	}
	switch kind {
	case "fat32":
		return fat32.Read(disk, size, 0, 0)
	case "fat16":
		return fat16.Read(disk, size, 0, 0)
	default:
		return fat12.Read(disk, size, 0, 0)
	}
}
