package rdp

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"sallyport/appliance/rdp/der"
)

// A browser's client begins with one RDCleanPath request; what follows the answer is the inside of the TLS connection
// that the appliance has made to the target. Both are DER: a SEQUENCE of numbered fields.

// MaxCleanPath bounds a request.
const MaxCleanPath = 16 << 10

// cleanPathVersion is the only one there is.
const cleanPathVersion = 3390

// Fields of a request and of an answer.
const (
	fieldVersion = iota
	fieldError
	fieldDestination
	fieldProxyAuth
	fieldServerAuth
	fieldPreconnection
	fieldX224
	fieldChain
	_
	fieldAddress
)

// A CleanPathRequest asks for a connection. What it says of where to is no authority here: the flow is.
type CleanPathRequest struct {
	Destination   string
	ProxyAuth     string
	ServerAuth    []byte // with its tag; nil: it is missing
	Preconnection []byte // likewise
	X224          []byte // the X.224 connection request in its TPKT
}

var errCleanPath = errors.New("this is not an RDCleanPath request")

// ParseCleanPathRequest reads a whole request.
func ParseCleanPathRequest(b []byte) (r CleanPathRequest, err error) {
	if len(b) > MaxCleanPath {
		return r, fmt.Errorf("an RDCleanPath request of %d bytes is too long", len(b))
	}
	rest, err := der.Whole(b, der.Sequence)
	if err != nil {
		return r, err
	}
	version, rest, err := der.Read(rest, der.Context(fieldVersion))
	if err != nil {
		return r, err
	}
	if v, err := der.Uint(version); err != nil || v != cleanPathVersion {
		return r, errCleanPath
	}
	if r.Destination, rest, err = readText(rest, fieldDestination); err != nil {
		return r, err
	}
	if r.ProxyAuth, rest, err = readText(rest, fieldProxyAuth); err != nil {
		return r, err
	}
	if r.ServerAuth, rest, err = optionalText(rest, fieldServerAuth); err != nil {
		return r, err
	}
	if r.Preconnection, rest, err = optionalText(rest, fieldPreconnection); err != nil {
		return r, err
	}
	x224, rest, err := der.Read(rest, der.Context(fieldX224))
	if err != nil {
		return r, err
	}
	if r.X224, err = der.Whole(x224, der.OctetString); err != nil {
		return r, err
	}
	if len(rest) > 0 {
		return r, errCleanPath
	}
	return r, nil
}

func readText(b []byte, field byte) (string, []byte, error) {
	value, rest, err := der.Read(b, der.Context(field))
	if err != nil {
		return "", nil, err
	}
	text, err := der.Whole(value, der.UTF8String)
	if err == nil && !utf8.Valid(text) {
		err = errCleanPath
	}
	return string(text), rest, err
}

func optionalText(b []byte, field byte) (text, rest []byte, err error) {
	value, rest, err := der.Optional(b, der.Context(field))
	if err != nil || value == nil {
		return nil, rest, err
	}
	inner, err := der.Whole(value, der.UTF8String)
	if err == nil && !utf8.Valid(inner) {
		err = errCleanPath
	}
	return value, rest, err
}

// Append appends the request.
func (r CleanPathRequest) Append(b []byte) []byte {
	body := der.Append(nil, der.Context(fieldVersion), der.AppendUint(nil, cleanPathVersion))
	body = der.Append(body, der.Context(fieldDestination), der.Append(nil, der.UTF8String, []byte(r.Destination)))
	body = der.Append(body, der.Context(fieldProxyAuth), der.Append(nil, der.UTF8String, []byte(r.ProxyAuth)))
	if r.ServerAuth != nil {
		body = der.Append(body, der.Context(fieldServerAuth), r.ServerAuth)
	}
	if r.Preconnection != nil {
		body = der.Append(body, der.Context(fieldPreconnection), r.Preconnection)
	}
	body = der.Append(body, der.Context(fieldX224), der.Append(nil, der.OctetString, r.X224))
	return der.Append(b, der.Sequence, body)
}

// AppendCleanPathAnswer appends the answer that the connection stands: the target's X.224 confirm, its certificate, of
// which the client wants the key, and its address. Those that have signed it are left out: they may be of any length.
func AppendCleanPathAnswer(b, x224, certificate []byte, address string) []byte {
	body := der.Append(nil, der.Context(fieldVersion), der.AppendUint(nil, cleanPathVersion))
	body = der.Append(body, der.Context(fieldX224), der.Append(nil, der.OctetString, x224))
	body = der.Append(body, der.Context(fieldChain), der.Append(nil, der.Sequence, der.Append(nil, der.OctetString, certificate)))
	body = der.Append(body, der.Context(fieldAddress), der.Append(nil, der.UTF8String, []byte(address)))
	return der.Append(b, der.Sequence, body)
}

// A CleanPathError is why there is no connection, as the browser's client wants it told: one of the numbers, or the X.224
// answer in which the target says why.
type CleanPathError struct {
	HTTP int    // status
	WSA  int    // error of Windows Sockets
	TLS  int    // alert
	X224 []byte // the target's answer
}

// Append appends the answer that says so.
func (e CleanPathError) Append(b []byte) []byte {
	code := uint32(1)
	if e.X224 != nil {
		code = 2
	}
	inner := der.Append(nil, der.Context(0), der.AppendUint(nil, code))
	for i, n := range []int{e.HTTP, e.WSA, e.TLS} {
		if n > 0 {
			inner = der.Append(inner, der.Context(byte(i+1)), der.AppendUint(nil, uint32(n)))
		}
	}
	body := der.Append(nil, der.Context(fieldVersion), der.AppendUint(nil, cleanPathVersion))
	body = der.Append(body, der.Context(fieldError), der.Append(nil, der.Sequence, inner))
	if e.X224 != nil {
		body = der.Append(body, der.Context(fieldX224), der.Append(nil, der.OctetString, e.X224))
	}
	return der.Append(b, der.Sequence, body)
}
