// Package uki makes unified kernel images: one EFI program that has the kernel, its command line and the initramfs in
// sections behind a boot stub, so that one signature covers them all. The form is that of the UAPI Group's "Unified Kernel
// Image" specification; the stub is systemd's.
//
//	image, err := uki.Build(stub, []uki.Section{{Name: ".cmdline", Data: …}, {Name: ".linux", Data: …}})
//	sections, err := uki.Sections(image)
package uki

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Section is a part of an EFI program, under a name of up to eight bytes.
type Section struct {
	Name string
	Data []byte
}

// Sizes and places in a PE file, by Microsoft's "PE Format".
const (
	peOffset         = 0x3c // where the place of the PE header stands
	coffSize         = 20
	sectionSize      = 40
	minOptional      = 112 + 16*8 // a PE32+ header with all 16 data directories
	pe32Plus         = 0x20b
	maxFile          = 1 << 30
	initialized      = 0x00000040 // IMAGE_SCN_CNT_INITIALIZED_DATA
	readable         = 0x40000000 // IMAGE_SCN_MEM_READ
	certificates     = 4          // index of the data directory of signatures
	certificateAlign = 8
	certificateHead  = 8    // WIN_CERTIFICATE's length, revision and type
	certificatePKCS7 = 2    // that type: WIN_CERT_TYPE_PKCS_SIGNED_DATA
	pageAlignment    = 4096 // what firmware that protects memory asks of a section's address
)

// header is what of a PE file's headers matters here; the fields are offsets into the file or values from it.
type header struct {
	coff, optional, table                int
	sections                             int
	sectionAlign, fileAlign, headersSize uint32
}

func parse(b []byte) (header, error) {
	var h header
	bad := func(format string, args ...any) (header, error) {
		return header{}, fmt.Errorf("not an EFI program: "+format, args...)
	}
	if len(b) > maxFile {
		return bad("it has more than %d bytes", maxFile)
	}
	if len(b) < peOffset+4 || b[0] != 'M' || b[1] != 'Z' {
		return bad("it does not begin with MZ")
	}
	at := binary.LittleEndian.Uint32(b[peOffset:])
	if uint64(at)+4+coffSize > uint64(len(b)) || !bytes.Equal(b[at:at+4], []byte("PE\x00\x00")) {
		return bad("it has no PE header")
	}
	h.coff = int(at) + 4
	h.optional = h.coff + coffSize
	h.sections = int(binary.LittleEndian.Uint16(b[h.coff+2:]))
	size := int(binary.LittleEndian.Uint16(b[h.coff+16:]))
	h.table = h.optional + size
	if size < minOptional || h.table+h.sections*sectionSize > len(b) {
		return bad("its headers are cut short")
	}
	o := b[h.optional:]
	if binary.LittleEndian.Uint16(o) != pe32Plus {
		return bad("it is not of the 64-bit form")
	}
	h.sectionAlign = binary.LittleEndian.Uint32(o[32:])
	h.fileAlign = binary.LittleEndian.Uint32(o[36:])
	h.headersSize = binary.LittleEndian.Uint32(o[60:])
	for _, align := range []uint32{h.sectionAlign, h.fileAlign} {
		if align == 0 || align&(align-1) != 0 || align > 1<<20 {
			return bad("it aligns by %d bytes", align)
		}
	}
	if int64(h.headersSize) > int64(len(b)) || int(h.headersSize) < h.table+h.sections*sectionSize {
		return bad("its headers have %d bytes", h.headersSize)
	}
	return h, nil
}

// entry is one line of the section table.
type entry struct {
	name                     string
	size, address            uint32 // in memory
	rawSize, raw             uint32 // in the file
	relocations, lineNumbers uint32 // pointers that only objects have
	characteristics          uint32
}

func (h header) entry(b []byte, i int) (entry, error) {
	s := b[h.table+i*sectionSize:][:sectionSize]
	u := binary.LittleEndian.Uint32
	e := entry{string(bytes.TrimRight(s[:8], "\x00")), u(s[8:]), u(s[12:]), u(s[16:]), u(s[20:]), u(s[24:]), u(s[28:]), u(s[36:])}
	if uint64(e.raw)+uint64(e.rawSize) > uint64(len(b)) {
		return entry{}, fmt.Errorf("not an EFI program: its section %q is cut short", e.name)
	}
	if uint64(e.address)+uint64(e.size) > maxFile {
		return entry{}, fmt.Errorf("not an EFI program: its section %q lies beyond %d", e.name, maxFile)
	}
	return e, nil
}

func (e entry) append(b []byte) []byte {
	name := make([]byte, 8)
	copy(name, e.name)
	b = append(b, name...)
	for _, v := range []uint32{e.size, e.address, e.rawSize, e.raw, e.relocations, e.lineNumbers, 0, e.characteristics} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	return b
}

// Sections returns the sections of an EFI program in the order of its table. The data are parts of b.
func Sections(b []byte) ([]Section, error) {
	h, err := parse(b)
	if err != nil {
		return nil, err
	}
	var sections []Section
	for i := range h.sections {
		e, err := h.entry(b, i)
		if err != nil {
			return nil, err
		}
		// The file's part is rounded up, memory's is exact, or larger where the rest is zeros.
		sections = append(sections, Section{e.name, b[e.raw : e.raw+min(e.rawSize, e.size)]})
	}
	return sections, nil
}

// Release returns what a unified kernel image says of itself: its section .osrel, of the form of os-release(5).
func Release(b []byte) (map[string]string, error) {
	sections, err := Sections(b)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(sections, func(s Section) bool { return s.Name == ".osrel" })
	if at < 0 {
		return nil, errors.New("not a unified kernel image: it has no section .osrel")
	}
	words := map[string]string{}
	for line := range strings.Lines(string(sections[at].Data)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			words[name] = strings.Trim(value, `"`)
		}
	}
	return words, nil
}

// Signatures returns the signatures that an EFI program carries, each of which is a PKCS #7 message by Microsoft's "Windows
// Authenticode Portable Executable Signature Format". They are parts of b, and nothing is said of whether they hold.
func Signatures(b []byte) ([][]byte, error) {
	_, table, err := signed(b)
	if err != nil {
		return nil, err
	}
	var signatures [][]byte
	for len(table) > 0 {
		if len(table) < certificateHead {
			return nil, errors.New("its table of signatures is cut short")
		}
		size := binary.LittleEndian.Uint32(table)
		if size < certificateHead || uint64(size) > uint64(len(table)) {
			return nil, errors.New("its table of signatures is cut short")
		}
		if binary.LittleEndian.Uint16(table[6:]) == certificatePKCS7 {
			signatures = append(signatures, table[certificateHead:size])
		}
		table = table[min(len(table), align(int(size), certificateAlign)):]
	}
	return signatures, nil
}

// certificates returns the table of signatures, which is the end of a file that has one.
func (h header) certificates(b []byte) ([]byte, error) {
	entry := b[h.optional+112+8*certificates:]
	at, size := binary.LittleEndian.Uint32(entry), binary.LittleEndian.Uint32(entry[4:])
	if size == 0 {
		return nil, nil
	}
	if uint64(at)+uint64(size) != uint64(len(b)) || at < h.headersSize {
		return nil, errors.New("its table of signatures is not at the end")
	}
	return b[at:], nil
}

// signed parses a program that may be signed, and returns its table of signatures too.
func signed(b []byte) (h header, table []byte, err error) {
	if h, err = parse(b); err == nil {
		table, err = h.certificates(b)
	}
	return h, table, err
}

// Strip returns the program without signatures and with a length that is a multiple of eight, as signing makes it. The
// checksum is zero then. Two programs that differ in their signatures only are the same when they are stripped.
func Strip(b []byte) ([]byte, error) {
	h, table, err := signed(b)
	if err != nil {
		return nil, err
	}
	b = slices.Clone(b[:len(b)-len(table)])
	b = append(b, make([]byte, align(len(b), certificateAlign)-len(b))...)
	clear(b[h.optional+64:][:4])
	clear(b[h.optional+112+8*certificates:][:8])
	return b, nil
}

// Build returns stub with the sections behind its own. What the stub has after its sections, its time and its checksum
// are left out, so that the same input gives the same bytes. A stub that is signed is refused: its signature would not
// hold.
func Build(stub []byte, sections []Section) ([]byte, error) {
	h, err := parse(stub)
	if err != nil {
		return nil, fmt.Errorf("boot stub: %w", err)
	}
	if table, err := h.certificates(stub); err != nil || table != nil {
		return nil, errors.Join(errors.New("boot stub: it is signed"), err)
	}
	end, address, data := h.headersSize, uint32(0), uint32(0)
	first := h.headersSize
	var table []byte
	for i := range h.sections {
		e, err := h.entry(stub, i)
		if err != nil {
			return nil, fmt.Errorf("boot stub: %w", err)
		}
		if e.rawSize > 0 {
			first = min(first, e.raw)
		}
		end = max(end, e.raw+e.rawSize)
		address = max(address, e.address+e.size)
		table = e.append(table)
	}
	out := slices.Clone(stub[:end])
	for _, s := range sections {
		if s.Name == "" || len(s.Name) > 8 || len(s.Data) == 0 || len(s.Data) > maxFile/2 {
			return nil, fmt.Errorf("section %q of %d bytes: a name has 1 to 8 bytes, and data is not empty", s.Name, len(s.Data))
		}
		out = append(out, make([]byte, align(len(out), int(h.fileAlign))-len(out))...)
		address = uint32(align(int(address), max(pageAlignment, int(h.sectionAlign))))
		if uint64(address)+uint64(len(s.Data)) > maxFile {
			return nil, fmt.Errorf("section %q makes the image larger than %d bytes", s.Name, maxFile)
		}
		e := entry{
			name: s.Name, size: uint32(len(s.Data)), address: address,
			rawSize: uint32(align(len(s.Data), int(h.fileAlign))), raw: uint32(len(out)),
			characteristics: initialized | readable,
		}
		table = e.append(table)
		out = append(out, s.Data...)
		out = append(out, make([]byte, int(e.rawSize)-len(s.Data))...)
		address += e.size
		data += e.rawSize
	}
	if h.table+len(table) > int(first) {
		return nil, fmt.Errorf("boot stub: its headers have no room for %d more sections", len(sections))
	}
	copy(out[h.table:], table)
	le := binary.LittleEndian
	le.PutUint16(out[h.coff+2:], uint16(h.sections+len(sections)))
	le.PutUint32(out[h.coff+4:], 0)  // time
	le.PutUint32(out[h.coff+8:], 0)  // symbols, which lie behind the sections
	le.PutUint32(out[h.coff+12:], 0) // their number
	o := out[h.optional:]
	le.PutUint32(o[8:], le.Uint32(o[8:])+data)
	le.PutUint32(o[56:], uint32(align(int(address), max(pageAlignment, int(h.sectionAlign)))))
	le.PutUint32(o[64:], 0) // checksum
	return out, nil
}

func align(n, by int) int { return (n + by - 1) &^ (by - 1) }
