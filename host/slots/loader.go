package slots

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"
)

// vendor is whose variables systemd-boot and its stub set (systemd.io/BOOT_LOADER_INTERFACE).
const vendor = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// maxVariable bounds what is read of one: a path of FAT has at most 260 characters.
const maxVariable = 4 + 2*1024

// A Loader is what systemd-boot says about this start.
type Loader struct {
	Entry     string // the name of the entry that it has started, such as sallyport_1.4.0.efi
	CountPath string // the file that it has counted down, such as \EFI\Linux\sallyport_1.4.0+1-1.efi; empty: it did not count
	Partition string // the GUID of the EFI system partition that it has come from, in lower case
}

// ErrNoLoader means that the machine was not started by systemd-boot.
var ErrNoLoader = errors.New("not started by systemd-boot")

// ReadLoader reads the EFI variables below dir, where an efivarfs is; normally /sys/firmware/efi/efivars.
func ReadLoader(dir string) (Loader, error) {
	var l Loader
	for name, to := range map[string]*string{"LoaderEntrySelected": &l.Entry, "LoaderBootCountPath": &l.CountPath, "LoaderDevicePartUUID": &l.Partition} {
		b, err := readFile(filepath.Join(dir, name+"-"+vendor), maxVariable)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			*to, err = parseVariable(b)
		}
		if err != nil {
			return Loader{}, fmt.Errorf("EFI variable %s: %w", name, err)
		}
	}
	if l.Entry == "" {
		return Loader{}, ErrNoLoader
	}
	l.Partition = strings.ToLower(l.Partition)
	return l, nil
}

// readFile reads a file that has at most max bytes.
func readFile(path string, max int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, max+1)
	n := 0
	for n < len(b) { // efivarfs wants no seek, and gives all at once
		k, err := f.Read(b[n:])
		if k == 0 || err != nil {
			break
		}
		n += k
	}
	if n > max {
		return nil, fmt.Errorf("longer than %d bytes", max)
	}
	return b[:n], nil
}

// parseVariable reads a variable as efivarfs shows it: four bytes of attributes, and here UTF-16 up to a NUL.
func parseVariable(b []byte) (string, error) {
	if len(b) < 4 || len(b)%2 != 0 || len(b) > maxVariable {
		return "", fmt.Errorf("%d bytes", len(b))
	}
	var units []uint16
	for b = b[4:]; len(b) > 0; b = b[2:] {
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			break
		}
		units = append(units, u)
	}
	return string(utf16.Decode(units)), nil
}

// Running is the slot that runs.
func (l Loader) Running() (Slot, error) {
	s, ok := ParseName(l.Entry)
	if !ok {
		return Slot{}, fmt.Errorf("the loader has started %.64q, which is no version of ours", l.Entry)
	}
	s.Blessed = l.CountPath == ""
	if counted, ok := l.counted(); ok {
		s = counted
	}
	return s, nil
}

// counted is the file that the loader has counted down.
func (l Loader) counted() (Slot, bool) {
	folder, name := "", l.CountPath
	if i := strings.LastIndexByte(name, '\\'); i >= 0 {
		folder, name = name[:i], name[i+1:]
	}
	s, ok := ParseName(name)
	return s, ok && strings.EqualFold(folder, `\EFI\Linux`)
}
