// Package message cuts the bytes of a program's flow into messages: a length of four bytes, big-endian, then that many
// bytes, of which the first is the message's kind.
//
//	r := message.NewReader(side, terminal.MaxMessage)
//	kind, body, err := r.Next()
//	err = message.Write(side, terminal.Output, bytes)
package message

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// header is the length and the kind.
const header = 5

// ErrLength is of a message without a kind, or longer than the reader takes.
var ErrLength = errors.New("a message is empty or too long")

// A Reader reads messages.
type Reader struct {
	from io.Reader
	max  int
	body []byte
}

// NewReader reads messages whose bodies have max bytes at most.
func NewReader(r io.Reader, max int) *Reader { return &Reader{from: r, max: max} }

// Next returns the next message. Its body is valid until the following call, which clears it: it may have been a password.
// The error is io.EOF between two messages.
func (r *Reader) Next() (kind byte, body []byte, err error) {
	clear(r.body)
	var head [header]byte
	if _, err := io.ReadFull(r.from, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > uint32(r.max)+1 {
		return 0, nil, ErrLength
	}
	if n := int(n) - 1; n > cap(r.body) {
		r.body = make([]byte, n)
	} else {
		r.body = r.body[:n]
	}
	if _, err := io.ReadFull(r.from, r.body); err != nil {
		return 0, nil, fmt.Errorf("read a message: %w", noEOF(err))
	}
	return head[4], r.body, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Append appends a message to b.
func Append(b []byte, kind byte, body []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)+1))
	return append(append(b, kind), body...)
}

// Write writes a message at once.
func Write(w io.Writer, kind byte, body []byte) error {
	_, err := w.Write(Append(make([]byte, 0, header+len(body)), kind, body))
	return err
}

// WriteJSON writes a message whose body is v.
func WriteJSON(w io.Writer, kind byte, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a message of kind %d: %w", kind, err)
	}
	return Write(w, kind, body)
}
