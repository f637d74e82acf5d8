package files

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"sallyport/frame"
)

// The kinds of messages. 19 and 20 mean another thing in each direction.
const (
	kindRequest  = 16 // to the person: answer
	kindData     = 17
	kindCredit   = 18
	kindCancel   = 19
	kindProgress = 19
	kindReady    = 20
)

// The most bytes of a message, with its kind: a request has two paths of 4 KiB in base64 at most, data is what a page reads
// of a file at once.
const (
	maxMessage = 64 << 10
	maxData    = 256 << 10
)

// dataHead is what precedes the bytes of data: kind, id, offset.
const dataHead = 1 + 4 + 8

// maxOffset keeps sums of offsets from overflowing.
const maxOffset = 1 << 62

// An input is a message of the person's.
type input struct {
	kind    byte
	id      uint32
	offset  int64  // data, credit
	bytes   []byte // data
	keep    bool   // cancel
	request request
}

// A request is the JSON of one.
type request struct {
	ID        uint32 `json:"id"`
	Op        string `json:"op"`
	Path      []byte `json:"path,omitempty"`
	To        []byte `json:"to,omitempty"`
	Existing  bool   `json:"existing,omitempty"`
	Replace   bool   `json:"replace,omitempty"`
	Recursive bool   `json:"recursive,omitempty"`
	From      int64  `json:"from,omitempty"`
	SHA256    string `json:"sha256,omitempty"`
	Size      int64  `json:"size,omitempty"`
	Modified  int64  `json:"modified,omitempty"`
	Clash     string `json:"clash,omitempty"`
}

// errMessage ends a flow whose person does not speak as the package says.
func errMessage(what string, args ...any) error {
	return frame.Refuse(frame.FrameBad, "the page sent what is no message about files: "+fmt.Sprintf(what, args...), "reload the page")
}

// readMessage reads the next message. Nothing is allocated for one that is too long.
func readMessage(r io.Reader) (input, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return input{}, errMessage("it ended in the middle")
		}
		return input{}, err
	}
	length, kind := binary.BigEndian.Uint32(head[:]), head[4]
	if length < 1 || length > maxLength(kind) {
		return input{}, errMessage("kind %d with %d bytes", kind, length)
	}
	body := make([]byte, length-1)
	if _, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return input{}, errMessage("it ended in the middle")
		}
		return input{}, err
	}
	return parseMessage(kind, body)
}

// maxLength is the most bytes that a person's message may have.
func maxLength(kind byte) uint32 {
	switch kind {
	case kindRequest:
		return maxMessage
	case kindData:
		return maxData
	case kindCredit:
		return 1 + 4 + 8
	case kindCancel:
		return 1 + 4 + 1
	}
	return 0
}

// parseMessage parses what follows the kind. The bytes of data stay in body.
func parseMessage(kind byte, body []byte) (input, error) {
	m := input{kind: kind}
	if kind == kindRequest {
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&m.request); err != nil {
			return input{}, errMessage("%v", err)
		}
		if _, err := d.Token(); err != io.EOF {
			return input{}, errMessage("something after a request")
		}
		m.id = m.request.ID
		return m, nil
	}
	if len(body) < 4 {
		return input{}, errMessage("kind %d without an id", kind)
	}
	m.id, body = binary.BigEndian.Uint32(body), body[4:]
	switch {
	case kind == kindCancel && len(body) == 1 && body[0] <= 1:
		m.keep = body[0] == 1
		return m, nil
	case kind == kindCredit && len(body) == 8, kind == kindData && len(body) >= 8:
		offset := binary.BigEndian.Uint64(body)
		if offset > maxOffset {
			return input{}, errMessage("an offset of %d", offset)
		}
		m.offset, m.bytes = int64(offset), body[8:]
		return m, nil
	}
	return input{}, errMessage("kind %d with %d bytes", kind, len(body)+5)
}

// appendData appends a whole message with data.
func appendData(b []byte, id uint32, offset int64, data []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(dataHead+len(data)))
	b = append(b, kindData)
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint64(b, uint64(offset))
	return append(b, data...)
}

// appendCredit appends a whole message with credit.
func appendCredit(b []byte, id uint32, limit int64) []byte {
	b = binary.BigEndian.AppendUint32(b, 1+4+8)
	b = append(b, kindCredit)
	b = binary.BigEndian.AppendUint32(b, id)
	return binary.BigEndian.AppendUint64(b, uint64(limit))
}

// appendJSON appends a whole message with what v is in JSON.
func appendJSON(b []byte, kind byte, v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	b = binary.BigEndian.AppendUint32(b, uint32(1+len(text)))
	return append(append(b, kind), text...), nil
}
