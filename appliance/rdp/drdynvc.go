package rdp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Commands of the channel in which servers open others (MS-RDPEDYC 2.2).
const (
	dynCreate       = 1
	dynFirst        = 2
	dynData         = 3
	dynClose        = 4
	dynCapabilities = 5

	dynRefused = 0xc0000001

	dynLength = 2 // bits of a first part's head that say how long its length is

	maxDynMessage  = 64 << 10
	maxDynChannels = 32
	maxDynName     = 256
)

// DisplayControl is the one dynamic channel that may be allowed: by it a client asks for another size.
const DisplayControl = "Microsoft::Windows::RDS::DisplayControl"

// dynamics watches both directions of the channel. It lets servers open the channels that are allowed, and refuses the
// others itself.
type dynamics struct {
	allowed func(name string) bool
	open    map[uint32]bool
	reader  [2]assembler
}

func newDynamics(allowed func(name string) bool) *dynamics {
	d := &dynamics{allowed: allowed, open: map[uint32]bool{}}
	d.reader[fromServer].limit, d.reader[fromClient].limit = maxDynMessage, maxDynMessage
	return d
}

// add takes a chunk from one side. It returns the messages that the other side gets, and those that go back.
func (d *dynamics) add(client bool, chunk []byte) (on, back [][]byte, err error) {
	message, cut, err := d.reader[side(client)].add(chunk)
	switch {
	case err != nil || message == nil:
		return nil, nil, err
	case cut:
		return nil, nil, errors.New("a message of a dynamic channel is too long")
	}
	message = bytes.Clone(message)
	command, id, body, err := parseDynamic(message)
	if err != nil {
		return nil, nil, err
	}
	pass := [][]byte{message}
	switch command {
	case dynCapabilities:
		return pass, nil, nil
	case dynCreate:
		if client {
			return d.created(id, pass, body)
		}
		name, _, ended := bytes.Cut(body, []byte{0})
		if !ended || len(name) > maxDynName {
			return nil, nil, errors.New("a dynamic channel's name does not parse")
		}
		if !d.allowed(string(name)) || len(d.open) >= maxDynChannels {
			head := message[:len(message)-len(body)]
			return nil, [][]byte{binary.LittleEndian.AppendUint32(bytes.Clone(head), dynRefused)}, nil
		}
		d.open[id] = true
		return pass, nil, nil
	case dynFirst:
		if total, err := dynTotal(message[0], body); err != nil || total > maxDynMessage {
			return nil, nil, errors.New("a message of a dynamic channel is too long")
		}
		if d.open[id] {
			return pass, nil, nil
		}
	case dynData:
		if d.open[id] {
			return pass, nil, nil
		}
	case dynClose:
		if d.open[id] {
			delete(d.open, id)
			return pass, nil, nil
		}
	}
	return nil, nil, nil // of a channel that is not open, or what was not agreed
}

// created is what the client says has become of a channel that the server wanted: a status of four bytes.
func (d *dynamics) created(id uint32, pass [][]byte, body []byte) (on, back [][]byte, err error) {
	switch {
	case len(body) != 4:
		return nil, nil, errors.New("the answer about a dynamic channel does not parse")
	case !d.open[id]:
		return nil, nil, nil
	case binary.LittleEndian.Uint32(body)&0x80000000 != 0: // there is none
		delete(d.open, id)
	}
	return pass, nil, nil
}

// dynTotal is the length that the first part of a message says all have together.
func dynTotal(head byte, b []byte) (total uint32, err error) {
	size := 1 << (head >> dynLength & 3)
	if size > 4 || len(b) < size {
		return 0, errors.New("the length of a dynamic channel's message does not parse")
	}
	for i := size - 1; i >= 0; i-- {
		total = total<<8 | uint32(b[i])
	}
	return total, nil
}

// parseDynamic reads a message's command, the channel that it is about, and what follows.
func parseDynamic(b []byte) (command byte, id uint32, body []byte, err error) {
	if len(b) < 2 {
		return 0, 0, nil, errors.New("a message of a dynamic channel is cut off")
	}
	command = b[0] >> 4
	if command < dynCreate || command > dynClose {
		return command, 0, nil, nil
	}
	size := 1 << (b[0] & 3)
	if size > 4 || len(b) < 1+size {
		return 0, 0, nil, fmt.Errorf("a message of a dynamic channel begins with %#x", b[0])
	}
	for i := size; i > 0; i-- {
		id = id<<8 | uint32(b[i])
	}
	return command, id, b[1+size:], nil
}
