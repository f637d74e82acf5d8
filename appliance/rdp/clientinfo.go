package rdp

import (
	"encoding/binary"
	"errors"
	"unicode/utf16"
)

// What a client says of its user (MS-RDPBCGR 2.2.1.11).
const (
	secInfo    = 0x0040 // security header: this is it
	secLicense = 0x0080

	infoAutologon       = 0x00000008
	infoUnicode         = 0x00000010
	infoCompression     = 0x00000080
	infoCompressionType = 0x00001e00
)

// maxInfoText bounds each of its texts in bytes, and maxInfoExtra what follows them.
const maxInfoText, maxInfoExtra = 1024, 1024

// A clientInfo is the packet, with its texts as they are on the wire, without the zero at their ends.
type clientInfo struct {
	flagsHigh, page uint32 // of the security header; the code page
	flags           uint32
	texts           [5][]byte // domain, user, password, alternate shell, working directory
	extra           []byte
}

const (
	infoDomain = iota
	infoUser
	infoPassword
	infoShell
	infoDirectory
)

var errClientInfo = errors.New("the client info does not parse")

// parseClientInfo reads the data that carries it.
func parseClientInfo(b []byte) (c clientInfo, err error) {
	if len(b) < 4+8+10 || binary.LittleEndian.Uint16(b) != secInfo {
		return c, errClientInfo
	}
	c.flagsHigh = uint32(binary.LittleEndian.Uint16(b[2:]))
	c.page, c.flags = binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[8:])
	if c.flags&infoUnicode == 0 {
		return c, errClientInfo
	}
	counts, rest := b[12:22], b[22:]
	for i := range c.texts {
		n := int(binary.LittleEndian.Uint16(counts[2*i:]))
		if n > maxInfoText || n%2 != 0 || len(rest) < n+2 || rest[n] != 0 || rest[n+1] != 0 {
			return c, errClientInfo
		}
		c.texts[i], rest = rest[:n:n], rest[n+2:]
	}
	if len(rest) > maxInfoExtra {
		return c, errClientInfo
	}
	c.extra = rest
	return c, nil
}

// append appends it.
func (c clientInfo) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, secInfo)
	b = binary.LittleEndian.AppendUint16(b, uint16(c.flagsHigh))
	b = binary.LittleEndian.AppendUint32(b, c.page)
	b = binary.LittleEndian.AppendUint32(b, c.flags)
	for _, text := range c.texts {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	}
	for _, text := range c.texts {
		b = append(append(b, text...), 0, 0)
	}
	return append(b, c.extra...)
}

// UTF16 is a text as RDP has it: UTF-16, the low byte first.
func UTF16(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

// fromUTF16 is the other way around.
func fromUTF16(b []byte) string {
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}
