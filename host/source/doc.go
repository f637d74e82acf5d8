// Package source finds the configuration of a machine that has been given none by hand: an image.
//
//	d, err := source.Local("/", source.ReadVolume)
//	if errors.Is(err, source.ErrNone) {
//		// ask the cloud's metadata service, or look at the data partition
//	}
//	err = source.Unpack(d, "/run/sallyport/etc")
//
// # The order
//
// The first of these that is there is taken, and no other is looked at. One that is there and broken is an error: what
// was meant to be the configuration must not be replaced by another in silence.
//
//  1. QEMU fw_cfg: the item opt/sallyport/config, and files as opt/sallyport/files/NAME
//  2. SMBIOS type 11: OEM strings that begin with "sallyport.config="
//  3. a volume with the label CIDATA, vfat or ISO 9660, with sallyport.yaml or user-data and files beside it
//
// A volume may be of anybody's making. So what reads it is the caller's choice: a confined process that calls ReadVolume, or
// that itself.
//
// The cloud's metadata service comes after them and the data partition last; others ask those.
//
// # The document
//
// It is sallyport.yaml as everywhere, and may have one key more, files, for what would lie beside it:
//
//	listen: {vnet: hub}
//	…
//	files:
//	  access.yaml: |
//	    admins: [ann]
//
// In user-data it may stand below the key sallyport of a "#cloud-config". In all cases lines and columns stay what they
// were, so that a fault is told where its author finds it.
package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// Limits of what is read from any source, in bytes.
const (
	MaxDocument = 1 << 20  // of the document
	MaxFiles    = 16 << 20 // of all files beside it together
	maxNames    = 256      // files beside it
)

// A Document is a configuration and what came with it.
type Document struct {
	From   string            // the source, as people are told it: "fw_cfg opt/sallyport/config"
	Config []byte            // the text of sallyport.yaml
	Files  map[string][]byte // by their names, with at most one folder: access/ops.cedar; may be nil
}

// ErrNone means that a source has no document.
var ErrNone = errors.New("no configuration")

// A VolumeReader reads the document of a volume; from is what its errors and the document call it.
type VolumeReader func(volume *os.File, from string) (Document, error)

// Local returns the document of the first local source that has one. root is the folder of sys and dev; on a machine "/".
// The error names the source, or is ErrNone.
func Local(root string, read VolumeReader) (Document, error) {
	for _, source := range []func() (Document, error){
		func() (Document, error) { return firmware(root) }, func() (Document, error) { return smbios(root) },
		func() (Document, error) { return volume(root, read) },
	} {
		d, err := source()
		if !errors.Is(err, ErrNone) {
			return d, err
		}
	}
	return Document{}, ErrNone
}

// Read reads a document that stands in a text, as user data do. from is what its errors call it.
func Read(r io.Reader, from string) (Document, error) {
	b, err := readAll(r, from, MaxDocument)
	if err != nil {
		return Document{}, err
	}
	if b, err = User(b); err != nil {
		return Document{}, fmt.Errorf("%s: %w", from, err)
	}
	return Document{From: from, Config: b}, nil
}

// A tooLarge is what has more bytes, or names, than are read.
type tooLarge struct {
	what  string
	limit int
}

func (e *tooLarge) Error() string {
	return fmt.Sprintf("%s: larger than the %d bytes that are read", e.what, e.limit)
}

// readAll reads all of r, which may have limit bytes.
func readAll(r io.Reader, what string, limit int) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(b) > limit {
		return nil, &tooLarge{what, limit}
	}
	return b, nil
}

// firmware reads what QEMU was given with -fw_cfg. The kernel shows it as files (the module qemu_fw_cfg).
func firmware(root string) (Document, error) {
	const item, folder = "opt/sallyport/config", "opt/sallyport/files"
	d := Document{From: "fw_cfg " + item}
	items := filepath.Join(root, "sys/firmware/qemu_fw_cfg/by_name")
	f, err := os.Open(filepath.Join(items, item, "raw"))
	if errors.Is(err, fs.ErrNotExist) {
		return Document{}, ErrNone
	}
	if err != nil {
		return Document{}, fmt.Errorf("%s: %w", d.From, err)
	}
	defer f.Close()
	if d.Config, err = readAll(f, d.From, MaxDocument); err != nil {
		return Document{}, err
	}
	names, err := filesOf(os.DirFS(filepath.Join(items, folder)), "raw")
	if err != nil {
		return Document{}, fmt.Errorf("fw_cfg %s: %w", folder, err)
	}
	for _, name := range names {
		if err := d.add(name, func() (io.ReadCloser, error) { return os.Open(filepath.Join(items, folder, name, "raw")) }); err != nil {
			return Document{}, fmt.Errorf("fw_cfg %s: %w", folder, err)
		}
	}
	return d, nil
}

// filesOf are the names of the items in a folder of fw_cfg and in its folders. An item is a folder too, or a link to one,
// with a file of the given name in it.
func filesOf(folder fs.FS, content string) ([]string, error) {
	var names []string
	for _, pattern := range []string{"*/", "*/*/"} {
		found, err := fs.Glob(folder, pattern+content)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			names = append(names, path.Dir(f))
		}
	}
	return names, nil
}

// add reads a file that came with the document.
func (d *Document) add(name string, open func() (io.ReadCloser, error)) error {
	if err := checkName(name); err != nil {
		return err
	}
	room := MaxFiles
	for _, b := range d.Files {
		room -= len(b)
	}
	if len(d.Files) >= maxNames {
		return fmt.Errorf("more than %d files", maxNames)
	}
	f, err := open()
	if err != nil {
		return fmt.Errorf("file %s: %w", name, err)
	}
	defer f.Close()
	b, err := readAll(f, "file "+name, room)
	if err != nil {
		return err
	}
	if d.Files == nil {
		d.Files = map[string][]byte{}
	}
	d.Files[name] = b
	return nil
}
