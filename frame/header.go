package frame

import (
	"fmt"
	"io"
)

// A Type says what a frame is. From Optional on, a receiver that does not know the type skips the frame.
type Type uint8

const (
	TypeHello     Type = 0x01
	TypeChallenge Type = 0x02
	TypeWelcome   Type = 0x03

	TypeOpen    Type = 0x10
	TypeOpened  Type = 0x11
	TypeRefused Type = 0x12
	TypeResume  Type = 0x13
	TypeResumed Type = 0x14

	TypeData       Type = 0x20
	TypeFin        Type = 0x21
	TypeReset      Type = 0x22
	TypeAck        Type = 0x23
	TypeSuperseded Type = 0x24

	TypePing   Type = 0x30
	TypePong   Type = 0x31
	TypeNotice Type = 0x32
	TypeDrain  Type = 0x33

	Optional Type = 0x80 // types from here on may be skipped
)

const (
	HeaderSize = 4
	MaxData    = 64 << 10 // bytes in one DATA frame
	maxHello   = 16 << 10 // bytes of HELLO, CHALLENGE, WELCOME: room for a token and a list of keys
	maxControl = 4 << 10  // bytes of any other control frame
	maxOption  = 64 << 10 // bytes of an optional frame, which are skipped unread

	// NonceSize is the length of an attempt's nonce in RESUME, RESUMED and ACK.
	NonceSize = 16

	// maxNonces bounds the attempts that one confirming ACK may list.
	maxNonces = 8
)

// FirstLimit is how far either side may send before the other has said anything: it holds from OPEN on.
const FirstLimit = 16 << 10

// MaxOffset is the largest offset that a frame may state.
const MaxOffset = 1<<62 - 1

// bounds are the least and the greatest payload of each type, in bytes.
var bounds = [256]struct{ least, most int }{
	TypeHello:      {1, maxHello},
	TypeChallenge:  {1, maxHello},
	TypeWelcome:    {1, maxHello},
	TypeOpen:       {1, maxControl},
	TypeOpened:     {1, maxControl},
	TypeRefused:    {1, maxControl},
	TypeResume:     {1, maxControl},
	TypeResumed:    {1, maxControl},
	TypeData:       {1, MaxData},
	TypeFin:        {8, 8},
	TypeReset:      {1, maxControl},
	TypeAck:        {16, 16 + maxNonces*NonceSize},
	TypeSuperseded: {0, 0},
	TypePing:       {8, 8},
	TypePong:       {8, 8},
	TypeNotice:     {1, maxControl},
	TypeDrain:      {1, maxControl},
}

func (t Type) known() bool { return typeNames[t] != "" }

var typeNames = [256]string{
	TypeHello: "HELLO", TypeChallenge: "CHALLENGE", TypeWelcome: "WELCOME",
	TypeOpen: "OPEN", TypeOpened: "OPENED", TypeRefused: "REFUSED", TypeResume: "RESUME", TypeResumed: "RESUMED",
	TypeData: "DATA", TypeFin: "FIN", TypeReset: "RESET", TypeAck: "ACK", TypeSuperseded: "SUPERSEDED",
	TypePing: "PING", TypePong: "PONG", TypeNotice: "NOTICE", TypeDrain: "DRAIN",
}

func (t Type) String() string {
	if n := typeNames[t]; n != "" {
		return n
	}
	return fmt.Sprintf("type 0x%02x", uint8(t))
}

// A Header begins every frame: the type in one byte, the payload's length in three, big-endian.
type Header struct {
	Type   Type
	Length int // of the payload, in bytes
}

// Append appends the header's four bytes to b.
func (h Header) Append(b []byte) []byte {
	return append(b, byte(h.Type), byte(h.Length>>16), byte(h.Length>>8), byte(h.Length))
}

// ParseHeader reads a header from the first four bytes of b and refuses, before anything is allocated for it, a type
// that must be understood and is not (E_FRAME_TYPE) and a length that the type does not allow (E_FRAME_SIZE, E_FRAME).
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, malformed("a header has 4 bytes")
	}
	h := Header{Type(b[0]), int(b[1])<<16 | int(b[2])<<8 | int(b[3])}
	if !h.Type.known() {
		if h.Type < Optional {
			return h, &SessionError{Reason: Reason{Code: FrameType, Sentence: fmt.Sprintf("frame %v is not known here", h.Type)}}
		}
		if h.Length > maxOption {
			return h, tooLong(h, maxOption)
		}
		return h, nil
	}
	switch limit := bounds[h.Type]; {
	case h.Length > limit.most:
		return h, tooLong(h, limit.most)
	case h.Length < limit.least:
		return h, malformed(fmt.Sprintf("a %v frame of %d bytes is too short", h.Type, h.Length))
	case h.Type == TypeAck && h.Length%NonceSize != 0:
		return h, malformed(fmt.Sprintf("an ACK frame of %d bytes ends within a nonce", h.Length))
	}
	return h, nil
}

// ReadHeader reads the next frame's header from r, byte for byte what ParseHeader accepts. At the end of r between
// two frames it returns io.EOF, within a header io.ErrUnexpectedEOF.
func ReadHeader(r io.Reader, scratch *[HeaderSize]byte) (Header, error) {
	if _, err := io.ReadFull(r, scratch[:]); err != nil {
		return Header{}, err
	}
	return ParseHeader(scratch[:])
}

// ReadFrame reads the next control frame whole, skipping optional frames that it does not know.
// The caller knows that no DATA is due; a DATA frame is returned like any other.
func ReadFrame(r io.Reader) (Header, []byte, error) {
	return readFrame(r, anyType, func(Type) {})
}

func anyType(Type) bool { return true }

// readFrame is ReadFrame for types that belong here: a stranger's frame of another type costs no memory. It tells
// skipped of the frames that it skips.
func readFrame(r io.Reader, belongs func(Type) bool, skipped func(Type)) (Header, []byte, error) {
	var scratch [HeaderSize]byte
	for {
		h, err := ReadHeader(r, &scratch)
		if err != nil {
			return h, nil, err
		}
		if !h.Type.known() {
			if err := skip(r, h.Length); err != nil {
				return h, nil, err
			}
			skipped(h.Type)
			continue
		}
		if !belongs(h.Type) {
			return h, nil, unexpectedFrame(h.Type)
		}
		p := make([]byte, h.Length)
		if _, err := io.ReadFull(r, p); err != nil {
			return h, nil, unexpected(err)
		}
		return h, p, nil
	}
}

func skip(r io.Reader, n int) error {
	_, err := io.CopyN(io.Discard, r, int64(n))
	return unexpected(err)
}

// unexpected turns the end of a stream into what it is within a frame.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func malformed(what string) error {
	return &SessionError{Reason: Reason{Code: FrameBad, Sentence: what}}
}

func tooLong(h Header, most int) error {
	return &SessionError{Reason: Reason{Code: FrameSize,
		Sentence: fmt.Sprintf("a %v frame has at most %d bytes, this one %d", h.Type, most, h.Length)}}
}
