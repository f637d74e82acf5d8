package rdp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Protocols that a client asks for and of which a server selects one (MS-RDPBCGR 2.2.1.1.1).
const (
	Standard  = 0 // RDP's own encryption, which is none to rely on
	TLS       = 1
	CredSSP   = 2 // TLS, then CredSSP
	CredSSPEx = 8 // likewise, then a word on whether the user may log on
)

// MaxX224 bounds a connection request and a confirm.
const MaxX224 = 512

var errX224 = errors.New("this is not an X.224 connection request")

// CheckConnectionRequest says whether b is a whole connection request, and which protocols it asks for.
func CheckConnectionRequest(b []byte) (protocols uint32, err error) {
	if err := checkX224(b, 0xe0); err != nil {
		return 0, err
	}
	rest := b[11:]
	if bytes.HasPrefix(rest, []byte("Cookie: ")) {
		end := bytes.Index(rest, []byte("\r\n"))
		if end < 0 {
			return 0, errX224
		}
		rest = rest[end+2:]
	}
	if len(rest) == 0 {
		return Standard, nil
	}
	if len(rest) < 8 || rest[0] != 1 || rest[2] != 8 || rest[3] != 0 {
		return 0, errX224
	}
	return binary.LittleEndian.Uint32(rest[4:]), nil
}

// AppendConnectionRequest appends a request for some of the protocols, and nothing else.
func AppendConnectionRequest(b []byte, protocols uint32) []byte {
	b = append(b, 3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0)
	return binary.LittleEndian.AppendUint32(b, protocols)
}

// checkX224 wants a TPKT of 11 to 512 bytes with the code in an X.224 header that fills it.
func checkX224(b []byte, code byte) error {
	switch {
	case len(b) < 11, len(b) > MaxX224, b[0] != 3, b[1] != 0, int(b[2])<<8|int(b[3]) != len(b):
		return errX224
	case len(b)-5 > 254 || int(b[4]) != len(b)-5, b[5]&0xf0 != code:
		return errX224
	}
	return nil
}

// A Confirm is a server's answer.
type Confirm struct {
	PDU      []byte
	Selected uint32
	Failure  uint32 // why it refuses; 0: it does not
}

// ParseConfirm reads a server's answer.
func ParseConfirm(b []byte) (c Confirm, err error) {
	if err := checkX224(b, 0xd0); err != nil {
		return c, fmt.Errorf("the target does not answer in RDP")
	}
	c.PDU = b
	rest := b[11:]
	switch {
	case len(rest) == 0: // it is older than the negotiation
		return c, nil
	case len(rest) != 8 || rest[2] != 8 || rest[3] != 0:
		return c, errors.New("the target's RDP negotiation does not parse")
	}
	value := binary.LittleEndian.Uint32(rest[4:])
	switch rest[0] {
	case 2:
		c.Selected = value
	case 3:
		if c.Failure = value; value == 0 {
			return c, errors.New("the target's RDP negotiation fails without a reason")
		}
	default:
		return c, errors.New("the target's RDP negotiation does not parse")
	}
	return c, nil
}

// Saying is the confirm with another protocol selected.
func (c Confirm) Saying(selected uint32) []byte {
	b := bytes.Clone(c.PDU)
	binary.LittleEndian.PutUint32(b[15:], selected)
	return b
}

// Why is a refusal in words.
func (c Confirm) Why() string {
	switch c.Failure {
	case 1:
		return "it wants TLS"
	case 2:
		return "it does not do TLS, only RDP's own encryption"
	case 3:
		return "it has no certificate for TLS"
	case 4:
		return "it finds the flags inconsistent"
	case 5:
		return "it wants network level authentication"
	case 6:
		return "it wants TLS with a user's certificate"
	}
	return fmt.Sprintf("reason %d", c.Failure)
}
