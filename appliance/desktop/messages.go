package desktop

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"sallyport/appliance/message"
	"sallyport/frame"
)

// Kinds of messages, from the person and to them.
const (
	kindStart = 0
	kindBytes = 1

	kindState  = 0
	kindPDU    = 1
	kindNotice = 2
)

const (
	maxStart   = 16 << 10
	maxMessage = 16 << 20 // of bytes, which are not held
)

type stateMessage struct {
	State       string `json:"state"`
	Certificate string `json:"certificate,omitempty"`
	First       bool   `json:"first,omitempty"`
	CredSSP     string `json:"credssp,omitempty"`
	In          bool   `json:"clipboard_in,omitempty"`
	Out         bool   `json:"clipboard_out,omitempty"`
	Resize      bool   `json:"resize,omitempty"`
}

type noticeMessage struct {
	Code     frame.Code `json:"code"`
	Sentence string     `json:"sentence"`
	Hint     string     `json:"hint,omitempty"`
}

var errMessage = frame.Refuse("E_FRAME", "the page's message does not parse", "page and appliance may be of different versions; reload the page")

// readStart reads the first message, which is wiped when it has been read.
func readStart(r io.Reader) (start, error) {
	length, kind, err := readHead(r)
	if err != nil {
		return start{}, err
	}
	if kind != kindStart || length > maxStart {
		return start{}, errMessage
	}
	b := make([]byte, length)
	defer clear(b)
	if _, err := io.ReadFull(r, b); err != nil {
		return start{}, err
	}
	return parseStart(b)
}

// readHead reads a message's length, less its kind, and its kind.
func readHead(r io.Reader) (length int, kind byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 1 || n > maxMessage {
		return 0, 0, errMessage
	}
	return int(n) - 1, head[4], nil
}

// A stream is the bytes of the browser's client, out of their messages.
type stream struct {
	r    io.Reader
	left int // of the message that is under way
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for s.left == 0 {
		length, kind, err := readHead(s.r)
		if err != nil {
			return 0, err
		}
		if kind != kindBytes {
			return 0, errMessage
		}
		s.left = length
	}
	n, err := s.r.Read(p[:min(len(p), s.left)])
	s.left -= n
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// A sink is where messages to the person go, each in one piece.
type sink struct {
	w   io.Writer
	mu  sync.Mutex
	buf []byte
}

func (s *sink) message(kind byte, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = message.Append(s.buf[:0], kind, body)
	_, err := s.w.Write(s.buf)
	return err
}

func (s *sink) json(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	return s.message(kind, b)
}

// gone says whether an error of a person's stream is that they have ended it.
func gone(err error) bool { return errors.Is(err, io.EOF) }
