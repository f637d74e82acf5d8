// Package ukitest makes EFI programs for tests. No firmware would start them.
package ukitest

import "encoding/binary"

// Program is a small EFI program with one section, of the form of systemd's stub, with text in it.
func Program(text string) []byte {
	le := binary.LittleEndian
	const headers, place, coffSize, sectionAt = 0x400, 0x80, 20, 240 // offsets by Microsoft's "PE Format"
	b := make([]byte, headers)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], place)
	copy(b[place:], "PE\x00\x00")
	coff := b[place+4:]
	le.PutUint16(coff, 0x8664)
	le.PutUint16(coff[2:], 1)
	le.PutUint32(coff[4:], 0x12345678) // time
	le.PutUint16(coff[16:], sectionAt)
	le.PutUint16(coff[18:], 0x20e)
	o := coff[coffSize:]
	le.PutUint16(o, 0x20b)    // PE32+
	le.PutUint32(o[32:], 512) // alignments
	le.PutUint32(o[36:], 512)
	le.PutUint32(o[56:], 0x3000)
	le.PutUint32(o[60:], headers)
	le.PutUint16(o[68:], 10)  // an EFI application
	le.PutUint32(o[108:], 16) // data directories
	raw := (len(text) + 511) &^ 511
	section := o[sectionAt:]
	copy(section, ".text")
	for i, v := range []uint32{uint32(len(text)), 0x1000, uint32(raw), headers, 0, 0, 0, 0x60000020} {
		le.PutUint32(section[8+4*i:], v)
	}
	b = append(b, text...)
	return append(b, make([]byte, raw-len(text))...)
}
