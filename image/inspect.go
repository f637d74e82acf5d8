package image

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"

	"sallyport/image/cpio"
	"sallyport/image/disk"
	"sallyport/image/uki"
)

// A Content is what Inspect finds in a file.
type Content struct {
	Kind  string `json:"kind"` // "disk", "EFI program" or "initramfs"
	Items []Item `json:"items"`
}

// An Item is a part of what was inspected, or a part of such a part: In says of which.
type Item struct {
	In     string `json:"in,omitempty"`
	Kind   string `json:"kind"` // partition, file, folder, link, device, section, signature
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256,omitempty"`
	Note   string `json:"note,omitempty"` // a short text's content, where a link leads, who signed
}

const maxInspected = 1 << 30 // of an EFI program or an initramfs, also unpacked

// Inspect lists what is in a raw disk, a fixed VHD, an EFI program or an initramfs.
func Inspect(name string) (*Content, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var head [520]byte
	n, err := io.ReadFull(f, head[:])
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	c := new(Content)
	switch {
	case string(head[512:]) == "EFI PART":
		return c, c.disk(name)
	case string(head[:2]) == "MZ", isArchive(head[:n]):
		b, err := readAll(f, name)
		if err != nil {
			return nil, err
		}
		if string(head[:2]) == "MZ" {
			c.Kind = "EFI program"
			err = c.program("", b)
		} else {
			c.Kind = "initramfs"
			err = c.initramfs("", b)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return c, nil
	case string(head[:4]) == "QFI\xfb":
		return nil, fmt.Errorf("%s is a qcow2; inspect the .raw beside it, or: qemu-img convert -O raw %s disk.raw", name, name)
	case string(head[:2]) == "\x1f\x8b":
		return nil, fmt.Errorf("%s is packed by gzip; inspect the .raw beside it, or what tar -xzf takes out of it", name)
	}
	return nil, fmt.Errorf("%s is no disk with a GUID partition table, no EFI program and no initramfs", name)
}

func readAll(f *os.File, name string) ([]byte, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxInspected+1))
	if err == nil && len(b) > maxInspected {
		err = fmt.Errorf("%s has more than %d bytes", name, maxInspected)
	}
	return b, err
}

const (
	zstdMagic = "\x28\xb5\x2f\xfd"
	newcMagic = "070701"
)

func isArchive(b []byte) bool {
	return bytes.HasPrefix(b, []byte(zstdMagic)) || bytes.HasPrefix(b, []byte(newcMagic))
}

func (c *Content) add(i Item, data []byte) {
	if data != nil {
		i.Size, i.SHA256 = int64(len(data)), sum(data)
	}
	c.Items = append(c.Items, i)
}

func (c *Content) disk(name string) error {
	c.Kind = "disk"
	found, err := disk.Read(name)
	if err != nil {
		return err
	}
	for _, p := range found.Partitions {
		c.add(Item{Kind: "partition", Name: p.Name, Size: p.Size, Note: "at " + fmt.Sprint(p.Start) + ", " + p.GUID}, nil)
	}
	for _, f := range found.Files {
		c.add(Item{In: "ESP", Kind: "file", Name: f.Path, Note: note(f.Data)}, f.Data)
		if strings.HasSuffix(strings.ToLower(f.Path), ".efi") {
			if err := c.program(f.Path, f.Data); err != nil {
				return fmt.Errorf("%s: %s: %w", name, f.Path, err)
			}
		}
	}
	return nil
}

func (c *Content) program(in string, b []byte) error {
	sections, err := uki.Sections(b)
	if err != nil {
		return err
	}
	signers, err := uki.Signers(b)
	if err != nil {
		return err
	}
	for _, s := range signers {
		item := Item{In: in, Kind: "signature", Name: s.Cert.Subject.String()}
		if !s.Holds {
			item.Note = "does not hold for this program"
		}
		c.add(item, nil)
	}
	for _, s := range sections {
		item := Item{In: in, Kind: "section", Name: s.Name}
		if s.Name != ".initrd" {
			item.Note = note(s.Data)
		}
		c.add(item, s.Data)
	}
	for _, s := range sections {
		if s.Name == ".initrd" && isArchive(s.Data) {
			if err := c.initramfs(strings.TrimPrefix(in+" .initrd", " "), s.Data); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Content) initramfs(in string, b []byte) error {
	archive := io.Reader(bytes.NewReader(b))
	if bytes.HasPrefix(b, []byte(zstdMagic)) {
		unpacked, err := zstd.NewReader(archive, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxInspected))
		if err != nil {
			return err
		}
		defer unpacked.Close()
		archive = io.LimitReader(unpacked, maxInspected)
	}
	for r := cpio.NewReader(archive); ; {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		item := Item{In: in, Name: "/" + e.Name, Kind: "file"}
		data := e.Data
		switch e.Kind() {
		case cpio.Directory:
			item.Kind, data = "folder", nil
		case cpio.Link:
			item.Kind, item.Note, data = "link", "to "+string(e.Data), nil
		case cpio.Character:
			item.Kind, item.Note, data = "device", fmt.Sprintf("c %d %d", e.Major, e.Minor), nil
		case cpio.Regular:
			item.Note = note(data)
		default:
			item.Kind = fmt.Sprintf("mode %o", e.Mode)
		}
		c.add(item, data)
	}
}

// note returns a short text as it is, in one line, and nothing for anything else.
func note(b []byte) string {
	const longest = 600
	text := strings.Trim(string(b), "\n\x00")
	if len(text) > longest || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r > '~' }) {
		return ""
	}
	return strings.ReplaceAll(text, "\n", "; ")
}
