package rdp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Blocks of settings that both sides begin with (MS-RDPBCGR 2.2.1.3, 2.2.1.4).
const (
	blockClientCore       = 0xc001
	blockClientSecurity   = 0xc002
	blockClientNetwork    = 0xc003
	blockClientCluster    = 0xc004
	blockClientMonitors   = 0xc005
	blockClientMonitorsEx = 0xc008
	blockServerCore       = 0x0c01
	blockServerSecurity   = 0x0c02
	blockServerNetwork    = 0x0c03
	blockServerMessage    = 0x0c04
	blockServerTransport  = 0x0c08
)

// Offsets in a client's core block, and what is written there.
const (
	coreWidth      = 8
	coreHeight     = 10
	coreDepth      = 140 // highColorDepth
	coreDepths     = 142 // supportedColorDepths
	coreFlags      = 144 // earlyCapabilityFlags
	coreConnection = 210 // connectionType
	coreSelected   = 212 // serverSelectedProtocol

	want32bpp = 0x0002
	graphics  = 0x0100 // the graphics pipeline, whose channel there is not
	lan       = 6
)

// maxChannels is how many a client may ask for (MS-RDPBCGR 2.2.1.3.4).
const maxChannels = 31

// A block is one of them, within its PDU.
type block struct {
	kind uint16
	data []byte // with its header of four bytes
}

var errGCC = errors.New("the first settings do not parse")

// The two forms of what stands around the blocks.
var (
	gccObject  = []byte{0x00, 0x05, 0x00, 0x14, 0x7c, 0x00, 0x01}
	gccRequest = []byte{0x00, 0x08, 0x00, 0x10, 0x00, 0x01, 0xc0, 0x00, 'D', 'u', 'c', 'a'}
	gccKey     = []byte{0xc0, 0x00, 'M', 'c', 'D', 'n'}
)

// clientBlocks are those of a Connect Initial. There is one way to spell it here, so that no server can read another.
func clientBlocks(pdu []byte) ([]block, error) {
	if len(pdu) < 9 || pdu[7] != mcsConnect || pdu[8] != 0x65 {
		return nil, errGCC
	}
	rest, err := connectBody(pdu[9:], []byte{0x04, 0x04, 0x01, 0x30, 0x30, 0x30})
	if err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(rest, gccObject)
	if !ok {
		return nil, errGCC
	}
	_, rest, err = perLength(rest) // of what follows, or so: the browser's client counts two bytes less, and no server looks
	if err != nil {
		return nil, errGCC
	}
	if rest, ok = bytes.CutPrefix(rest, gccRequest); !ok {
		return nil, errGCC
	}
	return readBlocks(rest)
}

// serverBlocks are those of a Connect Response. What stands before them is another's by a few bytes in each server.
func serverBlocks(pdu []byte) ([]block, error) {
	if len(pdu) < 9 || pdu[7] != mcsConnect || pdu[8] != 0x66 {
		return nil, errGCC
	}
	rest, err := connectBody(pdu[9:], []byte{0x0a, 0x02, 0x30})
	if err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(rest, gccObject)
	if !ok {
		return nil, errGCC
	}
	i := bytes.Index(rest[:min(len(rest), 24)], gccKey)
	if i < 0 {
		return nil, errGCC
	}
	return readBlocks(rest[i+len(gccKey):])
}

// connectBody walks the BER of a Connect PDU, whose fields have these tags, to the octets in which it ends.
func connectBody(b []byte, tags []byte) ([]byte, error) {
	length, rest, err := berLength(b)
	if err != nil || length != len(rest) {
		return nil, errGCC
	}
	for _, tag := range append(tags, 0x04) {
		if len(rest) == 0 || rest[0] != tag {
			return nil, errGCC
		}
		if length, rest, err = berLength(rest[1:]); err != nil || length > len(rest) {
			return nil, errGCC
		}
		b, rest = rest[:length], rest[length:]
	}
	if len(rest) > 0 {
		return nil, errGCC
	}
	return b, nil
}

// berLength reads a BER length of up to two bytes, not necessarily the shortest.
func berLength(b []byte) (length int, rest []byte, err error) {
	switch {
	case len(b) >= 1 && b[0] < 0x80:
		return int(b[0]), b[1:], nil
	case len(b) >= 2 && b[0] == 0x81:
		return int(b[1]), b[2:], nil
	case len(b) >= 3 && b[0] == 0x82:
		return int(b[1])<<8 | int(b[2]), b[3:], nil
	}
	return 0, nil, errGCC
}

// readBlocks reads a PER length and the blocks that fill it.
func readBlocks(b []byte) (blocks []block, err error) {
	length, rest, err := perLength(b)
	if err != nil || length != len(rest) {
		return nil, errGCC
	}
	for len(rest) > 0 {
		if len(rest) < 4 {
			return nil, errGCC
		}
		kind, n := binary.LittleEndian.Uint16(rest), int(binary.LittleEndian.Uint16(rest[2:]))
		if n < 4 || n > len(rest) {
			return nil, errGCC
		}
		for _, other := range blocks {
			if other.kind == kind {
				return nil, fmt.Errorf("the first settings have block %#x twice", kind)
			}
		}
		blocks, rest = append(blocks, block{kind, rest[:n:n]}), rest[n:]
	}
	return blocks, nil
}

// channelNames are the entries of a network block: eight bytes of a name and four of options.
func channelNames(b block) (entries [][]byte, err error) {
	if len(b.data) < 8 {
		return nil, errGCC
	}
	n := binary.LittleEndian.Uint32(b.data[4:])
	if n > maxChannels || len(b.data) != 8+12*int(n) {
		return nil, errGCC
	}
	for i := range int(n) {
		entries = append(entries, b.data[8+12*i:][:12])
	}
	return entries, nil
}

// channelName is the name of an entry as it is compared: servers do not tell cases apart.
func channelName(entry []byte) string {
	name, _, _ := bytes.Cut(entry[:8], []byte{0})
	return strings.ToLower(string(name))
}

// channelIDs are what a server has given to the channels, in the order in which they were asked for, and the one on which
// the desktop itself is.
func channelIDs(b block) (io uint16, ids []uint16, err error) {
	if len(b.data) < 8 {
		return 0, nil, errGCC
	}
	n := int(binary.LittleEndian.Uint16(b.data[6:]))
	if n > maxChannels || len(b.data) < 8+2*n || len(b.data) > 8+2*n+2 { // an odd number is padded
		return 0, nil, errGCC
	}
	for i := range n {
		ids = append(ids, binary.LittleEndian.Uint16(b.data[8+2*i:]))
	}
	return binary.LittleEndian.Uint16(b.data[4:]), ids, nil
}
