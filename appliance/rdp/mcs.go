package rdp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// What a TPKT holds, by the first byte after the X.224 header (T.125).
const (
	mcsConnect    = 0x7f
	mcsErect      = 0x04
	mcsAttach     = 0x28
	mcsAttached   = 0x2e
	mcsJoin       = 0x38
	mcsJoined     = 0x3e
	mcsSend       = 0x64 // from the client
	mcsIndication = 0x68 // from the server
	mcsUltimatum  = 0x21
)

// mcsChoice is the byte that says what a TPKT holds.
func mcsChoice(pdu []byte) (byte, error) {
	if len(pdu) < 8 || pdu[4] != 2 || pdu[5] != 0xf0 || pdu[6] != 0x80 {
		return 0, errors.New("a TPKT does not hold X.224 data")
	}
	switch c := pdu[7]; c {
	case mcsConnect, mcsErect, mcsAttach, mcsJoin, mcsSend, mcsIndication, mcsUltimatum:
		return c, nil
	default:
		if c&^1 == mcsAttached || c&^1 == mcsJoined { // the last bit says that an optional field is there
			return c &^ 1, nil
		}
		return 0, fmt.Errorf("an MCS PDU begins with %#x", c)
	}
}

// A sendData is data on a channel.
type sendData struct {
	choice    byte
	initiator uint16
	channel   uint16
	data      []byte // within the PDU
}

// parseSendData reads a TPKT that holds data.
func parseSendData(pdu []byte) (s sendData, err error) {
	if len(pdu) < 14 {
		return s, errors.New("MCS data is cut off")
	}
	s.choice, s.initiator, s.channel = pdu[7], binary.BigEndian.Uint16(pdu[8:]), binary.BigEndian.Uint16(pdu[10:])
	if pdu[12]&0x30 != 0x30 {
		return s, errors.New("MCS data is segmented")
	}
	length, rest, err := perLength(pdu[13:])
	if err == nil && length != len(rest) {
		err = errors.New("MCS data is longer or shorter than it says")
	}
	s.data = rest
	return s, err
}

// appendSendData appends a TPKT with the data.
func appendSendData(b []byte, s sendData) []byte {
	length := 4 + 3 + 8 + len(s.data)
	b = append(b, 3, 0, byte(length>>8), byte(length), 2, 0xf0, 0x80, s.choice)
	b = binary.BigEndian.AppendUint16(b, s.initiator)
	b = binary.BigEndian.AppendUint16(b, s.channel)
	b = append(b, 0x70, 0x80|byte(len(s.data)>>8), byte(len(s.data)))
	return append(b, s.data...)
}

// perLength reads a PER length, of one byte or two.
func perLength(b []byte) (length int, rest []byte, err error) {
	switch {
	case len(b) >= 1 && b[0]&0x80 == 0:
		return int(b[0]), b[1:], nil
	case len(b) >= 2: // RDP's implementations all take 15 bits where PER has 14
		return int(b[0]&0x7f)<<8 | int(b[1]), b[2:], nil
	}
	return 0, nil, errors.New("a PER length does not parse")
}
