package rdp

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
)

// Messages of the clipboard (MS-RDPECLIP 2.2).
const (
	clipReady          = 1
	clipFormats        = 2
	clipFormatsTaken   = 3
	clipRequest        = 4
	clipResponse       = 5
	clipCapabilities   = 7
	clipFileRequest    = 8
	clipFileResponse   = 9
	clipOK             = 0x0001
	clipFail           = 0x0002
	clipUnicode        = 13     // the one format that passes
	clipLongNames      = 0x0002 // the one capability that passes
	maxClipboard       = 4 << 20
	maxClipboardOthers = 64 << 10 // of all messages but the text itself
)

// A Clipboard is what may pass between two clipboards. Only text may, and nothing of what else is on them is told.
type Clipboard struct {
	In  bool // from the person to the target
	Out bool // from the target to the person

	// Passes is called with a text that is about to pass; an error holds it back. It may be nil.
	Passes func(Clip) error
}

// A Clip is a text that somebody has pasted.
type Clip struct {
	In     bool // to the target
	Size   int  // in bytes of UTF-8
	SHA256 [sha256.Size]byte
}

// A clipboard watches both directions of the channel. Each side is known by whether it is the client.
type clipboard struct {
	rules  Clipboard
	sides  [2]clipSide
	reader [2]assembler
}

// A clipSide is what one side has been let say.
type clipSide struct {
	offers   int // format lists of it that the other has to take
	requests int // requests of it that the other has to answer
	long     bool
}

const fromServer, fromClient = 0, 1

func side(client bool) int {
	if client {
		return fromClient
	}
	return fromServer
}

func newClipboard(rules Clipboard) *clipboard {
	c := &clipboard{rules: rules}
	c.reader[fromServer].limit, c.reader[fromClient].limit = maxClipboard, maxClipboard
	return c
}

// may says whether what one side has may go to the other.
func (c *clipboard) may(from int) bool {
	if from == fromClient {
		return c.rules.In
	}
	return c.rules.Out
}

// add takes a chunk from one side. It returns the messages that the other side gets, and those that go back.
func (c *clipboard) add(client bool, chunk []byte) (on, back [][]byte, err error) {
	message, cut, err := c.reader[side(client)].add(chunk)
	if err != nil || message == nil {
		return nil, nil, err
	}
	return c.message(side(client), message, cut)
}

func clipMessage(kind, flags uint16, body []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, kind)
	b = binary.LittleEndian.AppendUint16(b, flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

func (c *clipboard) message(from int, m []byte, cut bool) (on, back [][]byte, err error) {
	if len(m) < 8 {
		return nil, nil, errors.New("a clipboard message is cut off")
	}
	kind, flags, length, body := binary.LittleEndian.Uint16(m), binary.LittleEndian.Uint16(m[2:]), int64(binary.LittleEndian.Uint32(m[4:])), m[8:]
	switch {
	case cut && kind == clipResponse:
		flags, body = clipFail, nil
	case cut, kind != clipResponse && len(m) > maxClipboardOthers:
		return nil, nil, errors.New("a clipboard message is too long")
	case length > int64(len(body)):
		return nil, nil, errors.New("a clipboard message is cut off")
	default:
		body = body[:length] // some pad it
	}
	me, other := &c.sides[from], &c.sides[1-from]
	pass := func(b []byte) ([][]byte, [][]byte, error) { return [][]byte{b}, nil, nil }
	answer := func(b []byte) ([][]byte, [][]byte, error) { return nil, [][]byte{b}, nil }
	switch kind {
	case clipReady:
		if from == fromClient { // it is the server's to say
			return nil, nil, nil
		}
		return pass(clipMessage(kind, 0, nil))
	case clipCapabilities:
		capabilities, long, err := textCapabilities(body)
		if err != nil {
			return nil, nil, err
		}
		me.long = long
		return pass(clipMessage(kind, 0, capabilities))
	case clipFormats:
		if !c.may(from) {
			return answer(clipMessage(clipFormatsTaken, clipOK, nil))
		}
		formats, err := textFormats(body, c.sides[0].long && c.sides[1].long)
		if err != nil {
			return nil, nil, err
		}
		me.offers = min(me.offers+1, 100)
		return pass(clipMessage(kind, 0, formats))
	case clipFormatsTaken:
		if other.offers == 0 {
			return nil, nil, nil
		}
		other.offers--
		return pass(clipMessage(kind, flags&(clipOK|clipFail), nil))
	case clipRequest:
		if len(body) != 4 || !c.may(1-from) || binary.LittleEndian.Uint32(body) != clipUnicode {
			return answer(clipMessage(clipResponse, clipFail, nil))
		}
		me.requests = min(me.requests+1, 100)
		return pass(clipMessage(kind, 0, body))
	case clipResponse:
		if other.requests == 0 || !c.may(from) {
			return nil, nil, nil
		}
		other.requests--
		text, ok := c.text(from, flags, body)
		if !ok {
			return pass(clipMessage(kind, clipFail, nil))
		}
		return pass(clipMessage(kind, clipOK, text))
	case clipFileRequest:
		if len(body) < 4 {
			return nil, nil, errors.New("a clipboard message is cut off")
		}
		return answer(clipMessage(clipFileResponse, clipFail, body[:4]))
	}
	return nil, nil, nil // locks, folders and files
}

// text is the text of a response up to its zero, once it is written down that it passes. It passes as it was written down:
// what is no UTF-16 has become U+FFFD.
func (c *clipboard) text(from int, flags uint16, body []byte) ([]byte, bool) {
	if flags&clipOK == 0 || len(body)%2 != 0 {
		return nil, false
	}
	end := len(body)
	for i := 0; i < end; i += 2 {
		if body[i] == 0 && body[i+1] == 0 {
			end = i
		}
	}
	text := fromUTF16(body[:end])
	if c.rules.Passes != nil {
		if err := c.rules.Passes(Clip{In: from == fromClient, Size: len(text), SHA256: sha256.Sum256([]byte(text))}); err != nil {
			return nil, false
		}
	}
	return append(UTF16(text), 0, 0), true
}

// textCapabilities are capabilities without those of files.
func textCapabilities(body []byte) (capabilities []byte, long bool, err error) {
	bad := errors.New("the clipboard's capabilities do not parse")
	if len(body) < 4 {
		return nil, false, bad
	}
	var flags uint32
	n, rest := binary.LittleEndian.Uint16(body), body[4:]
	for range n {
		if len(rest) < 4 {
			return nil, false, bad
		}
		kind, size := binary.LittleEndian.Uint16(rest), int(binary.LittleEndian.Uint16(rest[2:]))
		if size < 4 || size > len(rest) {
			return nil, false, bad
		}
		if kind == 1 && size >= 12 {
			flags = binary.LittleEndian.Uint32(rest[8:]) & clipLongNames
		}
		rest = rest[size:]
	}
	capabilities = []byte{1, 0, 0, 0, 1, 0, 12, 0, 2, 0, 0, 0}
	return binary.LittleEndian.AppendUint32(capabilities, flags), flags != 0, nil
}

// textFormats is a list of formats with none but text, in the same form.
func textFormats(body []byte, long bool) ([]byte, error) {
	bad := errors.New("the clipboard's formats do not parse")
	var list []byte
	nameless := make([]byte, 32)
	if long {
		nameless = nameless[:2]
	}
	for rest := body; len(rest) > 0; {
		if len(rest) < 4 {
			return nil, bad
		}
		id, size := binary.LittleEndian.Uint32(rest), 36
		if long {
			size = 4
			for {
				if len(rest) < size+2 {
					return nil, bad
				}
				size += 2
				if rest[size-2] == 0 && rest[size-1] == 0 {
					break
				}
			}
		}
		if len(rest) < size {
			return nil, bad
		}
		rest = rest[size:]
		if id == clipUnicode && list == nil {
			list = binary.LittleEndian.AppendUint32(nil, id)
			list = append(list, nameless...)
		}
	}
	return list, nil
}
