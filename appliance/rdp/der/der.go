// Package der reads and writes the few forms of DER that RDP's handshakes are made of, and no others: lengths up to
// 65535 in their shortest form, so that what is read has one spelling.
//
//	value, rest, err := der.Read(b, der.Sequence)
//	b = der.Append(b, der.Context(2), der.Append(nil, der.UTF8String, host))
package der

import (
	"errors"
	"fmt"
)

// Tags.
const (
	Integer     = 0x02
	BitString   = 0x03
	OctetString = 0x04
	UTF8String  = 0x0c
	Sequence    = 0x30
)

// Context is the tag of a field with a number, which wraps its value.
func Context(n byte) byte { return 0xa0 + n }

// ErrShort says that there are not enough bytes yet.
var ErrShort = errors.New("DER is cut off")

// Head reads a tag and a length.
func Head(b []byte) (tag byte, head, length int, err error) {
	if len(b) < 2 {
		return 0, 0, 0, ErrShort
	}
	switch l := int(b[1]); {
	case l < 0x80:
		return b[0], 2, l, nil
	case l == 0x81:
		if len(b) < 3 {
			return 0, 0, 0, ErrShort
		}
		if b[2] < 0x80 {
			return 0, 0, 0, errors.New("a DER length is not in its shortest form")
		}
		return b[0], 3, int(b[2]), nil
	case l == 0x82:
		if len(b) < 4 {
			return 0, 0, 0, ErrShort
		}
		if b[2] == 0 {
			return 0, 0, 0, errors.New("a DER length is not in its shortest form")
		}
		return b[0], 4, int(b[2])<<8 | int(b[3]), nil
	}
	return 0, 0, 0, errors.New("a DER length is too great, or none")
}

// Read returns the value that begins b, which must have the tag, and what follows it.
func Read(b []byte, tag byte) (value, rest []byte, err error) {
	got, head, length, err := Head(b)
	switch {
	case err != nil:
		return nil, nil, err
	case got != tag:
		return nil, nil, fmt.Errorf("DER has the tag %#x where %#x belongs", got, tag)
	case len(b)-head < length:
		return nil, nil, ErrShort
	}
	return b[head : head+length], b[head+length:], nil
}

// Optional is Read of a field that may be missing: value is nil then.
func Optional(b []byte, tag byte) (value, rest []byte, err error) {
	if len(b) == 0 || b[0] != tag {
		return nil, b, nil
	}
	return Read(b, tag)
}

// Whole is Read of what must have nothing after it.
func Whole(b []byte, tag byte) ([]byte, error) {
	value, rest, err := Read(b, tag)
	if err == nil && len(rest) > 0 {
		err = errors.New("DER has bytes after its end")
	}
	return value, err
}

// Uint reads an integer from 0 to 2^32-1 in its shortest form.
func Uint(b []byte) (n uint32, err error) {
	value, err := Whole(b, Integer)
	if err != nil {
		return 0, err
	}
	switch {
	case len(value) == 0, value[0]&0x80 != 0, len(value) > 5, len(value) == 5 && value[0] != 0,
		len(value) > 1 && value[0] == 0 && value[1]&0x80 == 0:
		return 0, errors.New("a DER integer is out of range, or not in its shortest form")
	}
	for _, c := range value {
		n = n<<8 | uint32(c)
	}
	return n, nil
}

// Append appends a value, which is at most 65535 bytes long, under its tag.
func Append(b []byte, tag byte, value []byte) []byte {
	b = append(b, tag)
	switch n := len(value); {
	case n > 0xffff:
		panic("der: a value is too long")
	case n >= 0x100:
		b = append(b, 0x82, byte(n>>8), byte(n))
	case n >= 0x80:
		b = append(b, 0x81, byte(n))
	default:
		b = append(b, byte(n))
	}
	return append(b, value...)
}

// AppendUint appends an integer in its shortest form.
func AppendUint(b []byte, n uint32) []byte {
	value := []byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	for len(value) > 1 && value[0] == 0 && value[1]&0x80 == 0 {
		value = value[1:]
	}
	return Append(b, Integer, value)
}
