// Package cpio writes and reads archives in the form that Linux unpacks as its first file system: "newc", by
// Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
//
//	w := cpio.NewWriter(out)
//	err := w.Write(cpio.Entry{Name: "init", Mode: cpio.Regular | 0o755, Data: program})
//	…
//	err = w.Close()
//
// Times are zero, everything belongs to root and inodes are numbered as they come: the same entries give the same bytes.
package cpio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Kinds of entry, the upper bits of Entry.Mode.
const (
	kind      = 0o170000
	Directory = 0o040000
	Character = 0o020000
	Regular   = 0o100000
	Link      = 0o120000 // a symbolic one: Data is where it leads
)

const (
	magic      = "070701"
	headerSize = 110
	trailer    = "TRAILER!!!"
	maxName    = 4096
	maxData    = 1 << 30
)

// An Entry is one file, folder, link or device.
type Entry struct {
	Name         string // without a leading slash
	Mode         uint32 // kind and rights
	Major, Minor uint32 // of a device
	Data         []byte
}

// Kind is Directory, Character, Regular, Link or something else that stat(2) knows.
func (e Entry) Kind() uint32 { return e.Mode & kind }

// A Writer writes an archive.
type Writer struct {
	out    io.Writer
	offset int64
	inode  uint32
}

// NewWriter returns a Writer on w, which it does not buffer.
func NewWriter(w io.Writer) *Writer { return &Writer{out: w} }

// Write appends e. Folders must come before what is in them, or Linux leaves that out.
func (w *Writer) Write(e Entry) error {
	if e.Name == "" || len(e.Name) >= maxName || len(e.Data) > maxData {
		return fmt.Errorf("cpio: %.64q: a name has 1 to %d bytes, data at most %d", e.Name, maxName-1, maxData)
	}
	w.inode++
	return w.write(e, w.inode)
}

func (w *Writer) write(e Entry, inode uint32) error {
	links := 1
	if e.Kind() == Directory {
		links = 2
	}
	// magic, inode, mode, uid, gid, links, mtime, size, device's major and minor, its own as a node, name's size, checksum
	header := fmt.Sprintf("%s%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", magic,
		inode, e.Mode, 0, 0, links, 0, len(e.Data), 0, 0, e.Major, e.Minor, len(e.Name)+1, 0)
	for _, part := range [][]byte{append([]byte(header+e.Name), 0), e.Data} {
		if err := w.padded(part); err != nil {
			return err
		}
	}
	return nil
}

// padded writes b and zeros up to a multiple of four.
func (w *Writer) padded(b []byte) error {
	if _, err := w.out.Write(b); err != nil {
		return err
	}
	w.offset += int64(len(b))
	var zeros [4]byte
	n := pad(w.offset)
	w.offset += n
	_, err := w.out.Write(zeros[:n])
	return err
}

func pad(offset int64) int64 { return -offset & 3 }

// Close writes the end of the archive. It does not close what it writes to.
func (w *Writer) Close() error { return w.write(Entry{Name: trailer}, 0) }

// A Reader reads an archive.
type Reader struct {
	in     *bufio.Reader
	offset int64
	ended  bool
}

// NewReader returns a Reader on r.
func NewReader(r io.Reader) *Reader { return &Reader{in: bufio.NewReader(r)} }

// Next returns the next entry, or io.EOF after the last. Names are at most 4095 bytes long, data at most 1 GiB.
func (r *Reader) Next() (Entry, error) {
	if r.ended {
		return Entry{}, io.EOF
	}
	var header [headerSize]byte
	if err := r.full(header[:]); err != nil {
		return Entry{}, err
	}
	if string(header[:6]) != magic {
		return Entry{}, fmt.Errorf("cpio: at byte %d is no entry of the newc form", r.offset-headerSize)
	}
	var field [13]uint32
	for i := range field {
		v, err := strconv.ParseUint(string(header[6+8*i:14+8*i]), 16, 32)
		if err != nil {
			return Entry{}, fmt.Errorf("cpio: at byte %d is no number", r.offset-headerSize+int64(6+8*i))
		}
		field[i] = uint32(v)
	}
	e := Entry{Mode: field[1], Major: field[9], Minor: field[10]}
	size, nameSize := field[6], field[11]
	if nameSize < 2 || nameSize > maxName || size > maxData {
		return Entry{}, fmt.Errorf("cpio: an entry's name has %d bytes and its data %d", nameSize, size)
	}
	name := make([]byte, nameSize)
	if err := r.padded(name); err != nil {
		return Entry{}, err
	}
	if name[nameSize-1] != 0 {
		return Entry{}, errors.New("cpio: a name does not end with a zero")
	}
	e.Name = string(name[:nameSize-1])
	if e.Name == trailer {
		r.ended = true
		return Entry{}, io.EOF
	}
	data, err := io.ReadAll(io.LimitReader(r.in, int64(size))) // grows with what is really there
	r.offset += int64(len(data))
	if err == nil && len(data) < int(size) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return Entry{}, err
	}
	e.Data = data
	return e, r.skip()
}

func (r *Reader) padded(b []byte) error {
	if err := r.full(b); err != nil {
		return err
	}
	return r.skip()
}

func (r *Reader) skip() error {
	var zeros [4]byte
	return r.full(zeros[:pad(r.offset)])
}

func (r *Reader) full(b []byte) error {
	n, err := io.ReadFull(r.in, b)
	r.offset += int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // an archive ends with its trailer
	}
	return err
}
