package disk

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/klauspost/compress/gzip"
)

// block is how finely holes are kept when a disk is copied.
const block = 64 << 10

// copySparse writes in to out and leaves zeros out. out must be empty; it gets the length of in.
func copySparse(out *os.File, in io.Reader) (int64, error) {
	buf, zeros := make([]byte, block), make([]byte, block)
	size := int64(0)
	for {
		n, err := io.ReadFull(in, buf)
		if n > 0 && !bytes.Equal(buf[:n], zeros[:n]) {
			if _, err := out.WriteAt(buf[:n], size); err != nil {
				return 0, err
			}
		}
		size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return size, out.Truncate(size)
		}
		if err != nil {
			return 0, err
		}
	}
}

// VHD writes the raw disk as a fixed virtual hard disk, as Azure takes it: the raw disk and a footer. Its size must be
// whole MiB.
//
// The footer is that of Microsoft's "Virtual Hard Disk Image Format Specification". The creator says that it is Windows:
// from others QEMU takes the size from the geometry, which is rounded.
func VHD(name, raw string) (err error) {
	in, err := os.Open(raw)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	h := sha256.New()
	size, err := copySparse(out, io.TeeReader(in, h))
	if err != nil {
		return err
	}
	if size%mib != 0 {
		return fmt.Errorf("a disk of %d bytes: Azure takes whole MiB only", size)
	}
	_, err = out.WriteAt(footer(uint64(size), [16]byte(h.Sum(nil))), size)
	return err
}

const footerSize = 512

// footer returns a fixed disk's. The identifier comes from the content: a disk's footer is as reproducible as the disk.
func footer(size uint64, id [16]byte) []byte {
	const (
		features, version = 2, 0x00010000
		fixed             = 2
		none              = ^uint64(0) // no header of a dynamic disk
	)
	be := binary.BigEndian
	b := append(make([]byte, 0, footerSize), "conectix"...)
	b = be.AppendUint32(b, features)
	b = be.AppendUint32(b, version)
	b = be.AppendUint64(b, none)
	b = be.AppendUint32(b, 0) // seconds since 2000
	b = append(b, "win \x00\x0a\x00\x00Wi2k"...)
	b = be.AppendUint64(b, size) // at first
	b = be.AppendUint64(b, size) // now
	b = append(b, geometry(size)...)
	b = be.AppendUint32(b, fixed)
	checksum := len(b)
	b = be.AppendUint32(b, 0)
	b = append(b, id[:]...)
	b = b[:footerSize]
	sum := uint32(0)
	for _, c := range b {
		sum += uint32(c)
	}
	be.PutUint32(b[checksum:], ^sum)
	return b
}

// geometry returns cylinders, heads and sectors by the specification's appendix, for disks of at least 65535×16×63
// sectors and for smaller ones.
func geometry(size uint64) []byte {
	total := min(size/sector, 65535*16*255)
	sectors, heads := uint64(255), uint64(16)
	cylinders := total / sectors / heads
	if total < 65535*16*63 {
		sectors = 17
		cylindersHeads := total / sectors
		heads = max(4, (cylindersHeads+1023)/1024)
		if cylindersHeads >= heads*1024 || heads > 16 {
			sectors, heads = 31, 16
			cylindersHeads = total / sectors
		}
		if cylindersHeads >= heads*1024 {
			sectors, heads = 63, 16
			cylindersHeads = total / sectors
		}
		cylinders = cylindersHeads / heads
	}
	return append(binary.BigEndian.AppendUint16(nil, uint16(cylinders)), byte(heads), byte(sectors))
}

// gib is what the size of a disk is a multiple of at Google.
const gib = 1 << 30

// GCP writes the raw disk as Google Cloud takes it: disk.raw in a tar archive of the old GNU form, packed by gzip, with
// zeros behind it up to whole GiB. The disk then is larger than its partition table says, as wherever a cloud gives more
// room than the image has.
func GCP(name, raw string, modified time.Time) error { return archive(name, raw, modified, gib) }

// archive is GCP with a disk of a multiple of so many bytes.
func archive(name, raw string, modified time.Time, multiple int64) (err error) {
	in, err := os.Open(raw)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	const level = 7 // 9 takes twice as long, most of it for the zeros, and saves nothing
	packer, err := gzip.NewWriterLevel(out, level)
	if err != nil {
		return err
	}
	size := (info.Size() + multiple - 1) / multiple * multiple
	w := tar.NewWriter(packer)
	header := &tar.Header{Name: "disk.raw", Mode: 0o644, Size: size, ModTime: modified, Format: tar.FormatGNU}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	if _, err := io.Copy(w, in); err != nil {
		return err
	}
	if _, err := io.CopyN(w, zeros{}, size-info.Size()); err != nil {
		return err
	}
	return errors.Join(w.Close(), packer.Close())
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// ErrNoQEMU says that qemu-img is not installed, without which there is no qcow2.
var ErrNoQEMU = errors.New("qemu-img is not installed")

// QCOW2 writes the raw disk as a packed qcow2, by qemu-img, and returns that program's version.
func QCOW2(ctx context.Context, name, raw string) (string, error) {
	program, err := exec.LookPath("qemu-img")
	if err != nil {
		return "", ErrNoQEMU
	}
	said, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("qemu-img --version: %w", err)
	}
	version, _, _ := strings.Cut(strings.TrimPrefix(string(said), "qemu-img version "), "\n")
	// One coroutine: more of them would put blocks where the fastest wants them.
	c := exec.CommandContext(ctx, program, "convert", "-m", "1", "-f", "raw", "-O", "qcow2", "-c", raw, name)
	if said, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("qemu-img convert: %w: %s", err, bytes.TrimSpace(said))
	}
	return version, nil
}
