package credssp

import (
	"errors"
	"fmt"
	"io"

	"sallyport/appliance/rdp/der"
)

// A request is a TSRequest, the one message that both sides send (MS-CSSP 2.2.1). A field that is nil is missing.
type request struct {
	version  uint32
	token    []byte
	authInfo []byte
	keyAuth  []byte
	status   uint32 // 0: none
	nonce    []byte
}

// maxRequest bounds one.
const maxRequest = 16 << 10

var errRequest = errors.New("the target's CredSSP does not parse")

func (r request) append(b []byte) []byte {
	body := der.Append(nil, der.Context(0), der.AppendUint(nil, r.version))
	if r.token != nil {
		token := der.Append(nil, der.Context(0), der.Append(nil, der.OctetString, r.token))
		body = der.Append(body, der.Context(1), der.Append(nil, der.Sequence, der.Append(nil, der.Sequence, token)))
	}
	for _, f := range []struct {
		number byte
		value  []byte
	}{{2, r.authInfo}, {3, r.keyAuth}, {5, r.nonce}} {
		if f.number == 5 && r.status != 0 {
			status := []byte{byte(r.status >> 24), byte(r.status >> 16), byte(r.status >> 8), byte(r.status)}
			body = der.Append(body, der.Context(4), der.Append(nil, der.Integer, status))
		}
		if f.value != nil {
			body = der.Append(body, der.Context(f.number), der.Append(nil, der.OctetString, f.value))
		}
	}
	return der.Append(b, der.Sequence, body)
}

func parseRequest(b []byte) (r request, err error) {
	rest, err := der.Whole(b, der.Sequence)
	if err != nil {
		return r, err
	}
	value, rest, err := der.Read(rest, der.Context(0))
	if err != nil {
		return r, err
	}
	if r.version, err = der.Uint(value); err != nil {
		return r, err
	}
	if r.version < leastVersion {
		return r, fmt.Errorf("the target speaks version %d of CredSSP, which is not safe: it lacks an update of 2018", r.version)
	}
	if value, rest, err = der.Optional(rest, der.Context(1)); err != nil {
		return r, err
	}
	if value != nil {
		if r.token, err = parseToken(value); err != nil {
			return r, err
		}
	}
	for _, f := range []struct {
		number byte
		into   *[]byte
	}{{2, &r.authInfo}, {3, &r.keyAuth}, {4, nil}, {5, &r.nonce}} {
		if value, rest, err = der.Optional(rest, der.Context(f.number)); err != nil {
			return r, err
		}
		switch {
		case value == nil:
		case f.into == nil:
			r.status, err = parseStatus(value)
		default:
			*f.into, err = der.Whole(value, der.OctetString)
		}
		if err != nil {
			return r, err
		}
	}
	if len(rest) > 0 {
		return r, errRequest
	}
	return r, nil
}

// parseToken reads the one token of a list.
func parseToken(b []byte) ([]byte, error) {
	for _, tag := range []byte{der.Sequence, der.Sequence, der.Context(0), der.OctetString} {
		var err error
		if b, err = der.Whole(b, tag); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// parseStatus reads a status of Windows: four bytes, which DER takes for a negative number, or with a zero before them.
func parseStatus(b []byte) (status uint32, err error) {
	value, err := der.Whole(b, der.Integer)
	if err != nil {
		return 0, err
	}
	if len(value) == 5 && value[0] == 0 {
		value = value[1:]
	}
	if len(value) != 4 {
		return 0, errRequest
	}
	status = uint32(value[0])<<24 | uint32(value[1])<<16 | uint32(value[2])<<8 | uint32(value[3])
	if status == 0 {
		return 0, errRequest
	}
	return status, nil
}

func send(w io.Writer, r request) error {
	if _, err := w.Write(r.append(nil)); err != nil {
		return fmt.Errorf("send CredSSP: %w", err)
	}
	return nil
}

// receive reads the server's next message. What it refuses is a *DeniedError.
func receive(r io.Reader) (request, error) {
	b := make([]byte, 2, 512)
	if _, err := io.ReadFull(r, b); err != nil {
		return request{}, fmt.Errorf("read CredSSP: %w", err)
	}
	_, head, length, err := der.Head(b)
	for errors.Is(err, der.ErrShort) {
		b = append(b, 0)
		if _, err := io.ReadFull(r, b[len(b)-1:]); err != nil {
			return request{}, fmt.Errorf("read CredSSP: %w", err)
		}
		_, head, length, err = der.Head(b)
	}
	if err != nil {
		return request{}, err
	}
	if length > maxRequest || b[0] != der.Sequence {
		return request{}, errRequest
	}
	at := len(b)
	b = append(b, make([]byte, head+length-at)...)
	if _, err := io.ReadFull(r, b[at:]); err != nil {
		return request{}, fmt.Errorf("read CredSSP: %w", err)
	}
	q, err := parseRequest(b)
	if err == nil && q.status != 0 {
		err = &DeniedError{Status: q.status}
	}
	return q, err
}

// tsCredentials are the credentials as they are sent in the end: a TSCredentials with a TSPasswordCreds.
func (c Credentials) tsCredentials() []byte {
	body := der.Append(nil, der.Context(0), der.Append(nil, der.OctetString, UTF16(c.Domain)))
	body = der.Append(body, der.Context(1), der.Append(nil, der.OctetString, UTF16(c.User)))
	body = der.Append(body, der.Context(2), der.Append(nil, der.OctetString, c.Password))
	creds := der.Append(nil, der.Sequence, body)
	defer clear(creds)
	outer := der.Append(nil, der.Context(0), der.AppendUint(nil, 1))
	outer = der.Append(outer, der.Context(1), der.Append(nil, der.OctetString, creds))
	clear(body)
	defer clear(outer)
	return der.Append(nil, der.Sequence, outer)
}
