package rdp

import (
	"encoding/binary"
	"errors"
)

// Data on a static channel comes in chunks (MS-RDPBCGR 2.2.6.1): the length of the whole, flags, a part.
const (
	chunkFirst      = 0x00000001
	chunkLast       = 0x00000002
	chunkShow       = 0x00000010
	chunkCompressed = 0x00200000

	chunkSize = 1600 // that both sides take without being asked
)

// An assembler makes messages of chunks. A message that is longer than it may be is dropped but for its first bytes.
type assembler struct {
	limit   int
	total   int
	arrived int
	buf     []byte
	open    bool
}

// keptHead is what is left of a message that is too long.
const keptHead = 16

// add takes a chunk. It returns a message that is whole now; cut says that it was too long and ends early. The message is
// valid until the following call.
func (a *assembler) add(b []byte) (message []byte, cut bool, err error) {
	if len(b) < 8 {
		return nil, false, errors.New("a chunk of a channel is cut off")
	}
	total, flags, part := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), b[8:]
	switch {
	case flags&chunkCompressed != 0:
		return nil, false, errors.New("a channel is compressed, which was not agreed")
	case flags&chunkFirst != 0:
		if a.open || total > 1<<30 {
			return nil, false, errors.New("a channel's chunks are out of order")
		}
		a.total, a.arrived, a.open, a.buf = int(total), 0, true, a.buf[:0]
	case !a.open || int64(total) != int64(a.total):
		return nil, false, errors.New("a channel's chunks are out of order")
	}
	if len(part) > a.total-a.arrived {
		return nil, false, errors.New("a channel's chunks are longer than they say")
	}
	a.arrived += len(part)
	keep := a.limit
	if a.total > a.limit {
		keep = keptHead
	}
	a.buf = append(a.buf, part[:min(len(part), max(0, keep-len(a.buf)))]...)
	if flags&chunkLast == 0 {
		return nil, false, nil
	}
	if a.arrived != a.total {
		return nil, false, errors.New("a channel's chunks are shorter than they say")
	}
	a.open = false
	message = a.buf
	if cap(a.buf) > 64<<10 { // a great message is not held for long
		a.buf = nil
	}
	return message, a.total > a.limit, nil
}

// chunks are the PDUs of a message.
func chunks(to sendData, message []byte) (pdus [][]byte) {
	flags, rest := uint32(chunkFirst), message
	for {
		part := rest[:min(len(rest), chunkSize)]
		if rest = rest[len(part):]; len(rest) == 0 {
			flags |= chunkLast
		}
		if len(part) != len(message) {
			flags |= chunkShow
		}
		b := binary.LittleEndian.AppendUint32(nil, uint32(len(message)))
		b = binary.LittleEndian.AppendUint32(b, flags)
		to.data = append(b, part...)
		pdus = append(pdus, appendSendData(nil, to))
		if flags&chunkLast != 0 {
			return pdus
		}
		flags = 0
	}
}
