package rdp

import (
	"encoding/binary"
	"errors"
)

// What is said on the desktop's own channel once licensing is over (MS-RDPBCGR 2.2.8.1.1).
const (
	shareDemandActive  = 1
	shareConfirmActive = 3
	shareDeactivateAll = 6
	shareData          = 7
	shareRedirect      = 10

	dataUpdate = 2
	dataInput  = 0x1c

	updateBitmap     = 1
	capabilityBitmap = 2

	packed = 0x20 // of a PDU's compressedType
)

// maxDesktop bounds a desktop's width and height: the client in the browser holds all of it.
const maxDesktop = 8192

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

// desktopSize is the size that a server's Demand Active says the desktop has.
func desktopSize(b []byte) (width, height int, err error) {
	bad := errors.New("the target's capabilities do not parse")
	if len(b) < 14 {
		return 0, 0, bad
	}
	source := int(binary.LittleEndian.Uint16(b[10:]))
	if len(b) < 14+source+4 {
		return 0, 0, bad
	}
	n, rest := binary.LittleEndian.Uint16(b[14+source:]), b[14+source+4:]
	for range n {
		if len(rest) < 4 {
			return 0, 0, bad
		}
		kind, size := binary.LittleEndian.Uint16(rest), int(binary.LittleEndian.Uint16(rest[2:]))
		if size < 4 || size > len(rest) {
			return 0, 0, bad
		}
		if kind == capabilityBitmap && size >= 16 {
			width, height = int(binary.LittleEndian.Uint16(rest[12:])), int(binary.LittleEndian.Uint16(rest[14:]))
		}
		rest = rest[size:]
	}
	return width, height, nil
}

var (
	errUpdate = errors.New("an update of the picture does not parse")
	errPacked = errors.New("an update of the picture is compressed, which was not agreed")
)

// widenSlow is widen for an update on the desktop's channel.
func widenSlow(b []byte, width int) error {
	switch {
	case b[15]&packed != 0:
		return errPacked
	case len(b) < 20:
		return errUpdate
	case binary.LittleEndian.Uint16(b[18:]) == updateBitmap:
		return widen(b[20:], width)
	}
	return nil
}

// widenFast is widen for the updates of a fast-path PDU. One that is in parts is left as it is: xrdp sends none.
func widenFast(pdu []byte, width int) error {
	rest := pdu[2:]
	if pdu[1]&0x80 != 0 {
		rest = pdu[3:]
	}
	for len(rest) > 0 {
		if rest[0]>>6 != 0 {
			return errPacked
		}
		if len(rest) < 3 {
			return errUpdate
		}
		code, fragment, size := rest[0]&0x0f, rest[0]>>4&3, int(binary.LittleEndian.Uint16(rest[1:]))
		if size > len(rest)-3 {
			return errUpdate
		}
		body := rest[3 : 3+size]
		if code == updateBitmap && fragment == 0 && len(body) >= 2 && binary.LittleEndian.Uint16(body) == updateBitmap {
			if err := widen(body[2:], width); err != nil {
				return err
			}
		}
		rest = rest[3+size:]
	}
	return nil
}

// widen mends rectangles that are narrower than the bitmap that they show. xrdp pads its bitmaps to a multiple of four,
// and the browser's client takes the rectangle's width for theirs, which shears the picture. It paints up to three
// columns more than was meant, if they are within the desktop; with a width of 0 none are.
func widen(b []byte, desktop int) error {
	if len(b) < 2 {
		return errUpdate
	}
	n, rest := binary.LittleEndian.Uint16(b), b[2:]
	for range n {
		if len(rest) < 18 {
			return errUpdate
		}
		left, right, width := int(binary.LittleEndian.Uint16(rest)), int(binary.LittleEndian.Uint16(rest[4:])), int(binary.LittleEndian.Uint16(rest[8:]))
		if right-left+1 < width && left+width <= desktop {
			binary.LittleEndian.PutUint16(rest[4:], uint16(left+width-1))
		}
		size := int(binary.LittleEndian.Uint16(rest[16:]))
		if size > len(rest)-18 {
			return errUpdate
		}
		rest = rest[18+size:]
	}
	return nil
}
