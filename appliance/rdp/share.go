package rdp

import (
	"encoding/binary"
	"errors"
)

// What is said on the desktop's own channel once licensing is over (MS-RDPBCGR 2.2.8.1.1).
const (
	shareDemandActive = 1
	shareData         = 7

	dataUpdate = 2
	dataInput  = 0x1c

	updateBitmap     = 1
	capabilityBitmap = 2
)

// isShare tells data of that kind from a licence, in whose place a share has its length: what follows is version 1 here,
// and nothing there.
func isShare(b []byte) bool {
	return len(b) >= 6 && int(binary.LittleEndian.Uint16(b)) == len(b) && b[2]&0xf0 == 0x10
}

// shareKind is the kind of a PDU of that channel, and of its data if it is some.
func shareKind(b []byte) (kind, data byte) {
	if len(b) < 6 {
		return 0, 0
	}
	if kind = b[2] & 0x0f; kind == shareData && len(b) >= 18 {
		data = b[14]
	}
	return kind, data
}

// desktopWidth is the width that a server's Demand Active says the desktop has.
func desktopWidth(b []byte) (width int, err error) {
	bad := errors.New("the target's capabilities do not parse")
	if len(b) < 14 {
		return 0, bad
	}
	source := int(binary.LittleEndian.Uint16(b[10:]))
	if len(b) < 14+source+4 {
		return 0, bad
	}
	n, rest := binary.LittleEndian.Uint16(b[14+source:]), b[14+source+4:]
	for range n {
		if len(rest) < 4 {
			return 0, bad
		}
		kind, size := binary.LittleEndian.Uint16(rest), int(binary.LittleEndian.Uint16(rest[2:]))
		if size < 4 || size > len(rest) {
			return 0, bad
		}
		if kind == capabilityBitmap && size >= 16 {
			width = int(binary.LittleEndian.Uint16(rest[12:]))
		}
		rest = rest[size:]
	}
	return width, nil
}

// widenSlow is widen for an update on the desktop's channel.
func widenSlow(b []byte, width int) {
	if len(b) < 20 || b[15] != 0 || binary.LittleEndian.Uint16(b[18:]) != updateBitmap { // compressed as a whole, or something else
		return
	}
	widen(b[20:], width)
}

// widenFast is widen for the updates of a fast-path PDU.
func widenFast(pdu []byte, width int) {
	rest := pdu[2:]
	if pdu[1]&0x80 != 0 {
		rest = pdu[3:]
	}
	for len(rest) >= 3 {
		code, fragment, packed := rest[0]&0x0f, rest[0]>>4&3, rest[0]>>6
		if packed != 0 { // which agrees with nothing that was asked for
			return
		}
		size := int(binary.LittleEndian.Uint16(rest[1:]))
		if size > len(rest)-3 {
			return
		}
		if body := rest[3 : 3+size]; code == updateBitmap && fragment == 0 && len(body) >= 2 && binary.LittleEndian.Uint16(body) == updateBitmap {
			widen(body[2:], width)
		}
		rest = rest[3+size:]
	}
}

// widen mends rectangles that are narrower than the bitmap that they show. xrdp pads its bitmaps to a multiple of four,
// and the browser's client takes the rectangle's width for theirs, which shears the picture. It paints up to three
// columns more than was meant, if they are within the desktop.
func widen(b []byte, desktop int) {
	if len(b) < 2 {
		return
	}
	n, rest := binary.LittleEndian.Uint16(b), b[2:]
	for range n {
		if len(rest) < 18 {
			return
		}
		left, right, width := int(binary.LittleEndian.Uint16(rest)), int(binary.LittleEndian.Uint16(rest[4:])), int(binary.LittleEndian.Uint16(rest[8:]))
		if right-left+1 < width && left+width <= desktop {
			binary.LittleEndian.PutUint16(rest[4:], uint16(left+width-1))
		}
		size := int(binary.LittleEndian.Uint16(rest[16:]))
		if size > len(rest)-18 {
			return
		}
		rest = rest[18+size:]
	}
}
