// Package hostkey knows SSH servers by their keys: it reads the key that a server shows while its connection is still in
// the clear, and compares it with those that are pinned.
//
//	var r hostkey.Reader
//	key, done, err := r.Feed(p) // what the server sends, piece by piece; key is there once
//	if key != nil {
//		err = pins.Check(ctx, "db-1", key)
//	}
//
// # What is read
//
// A server says who it is with lines of text, and then packets (RFC 4253 §4.2, §6). Its key is in the answer of the key
// exchange: message 31 in all methods in use but those that agree on a group first, in which 31 is the group and 33 the
// answer (RFC 4419). An answer is three strings and a group is two numbers, so that which is which needs no knowledge of
// the client's side, and a server that sends two answers is caught. After NEWKEYS all is encrypted and the Reader is done.
//
// # Pins
//
// Servers of RDP have certificates of TLS instead of keys. They are pinned in the same way, each as it is.
//
// A target without a key is known by the first that it shows. Another key than that is refused, whatever its algorithm: a
// server in the middle could choose one that nothing is pinned of.
package hostkey

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Bounds of what is read. OpenSSH takes packets of 256 KiB; an answer holds a key or certificate, a number and a
// signature, of some kilobytes.
const (
	maxLine    = 8 << 10   // of a line of text
	maxLines   = 1024      // of those before the identification
	maxPacket  = 256 << 10 // of a packet
	maxAnswer  = 64 << 10  // of one that is kept
	maxInClear = 1 << 20   // of all before NEWKEYS
)

// The messages of a key exchange that matter.
const (
	msgNewKeys  = 21
	msgReply    = 31 // or the group of a group exchange
	msgGexReply = 33
	firstOfAuth = 50 // what follows a key exchange
)

// ErrUnread says that a server's key exchange could not be read.
var ErrUnread = errors.New("the server's key exchange is not one that can be read")

// A Reader reads what a server sends until it is encrypted. Its zero value is ready. It keeps no more than one packet.
type Reader struct {
	total   int
	lines   int
	line    [4]byte // the beginning of the line that is under way
	lineLen int
	binary  bool   // the identification is over
	head    []byte // of the packet: its length, the padding's, the message
	packet  []byte // its payload, where that is kept
	left    int    // bytes of the packet that are still to come
	kept    bool
	padding int
	shown   bool // a key has been
}

// Feed reads the next bytes. key is the server's, in the call in which it is complete; done is true from the call in
// which NEWKEYS came, after which there is nothing to feed. An error is ErrUnread.
func (r *Reader) Feed(p []byte) (key []byte, done bool, err error) {
	if r.total += len(p); r.total > maxInClear {
		return nil, false, unread("it is too long")
	}
	for len(p) > 0 {
		if !r.binary {
			if p, err = r.text(p); err != nil {
				return nil, false, err
			}
			continue
		}
		var k []byte
		if p, k, done, err = r.piece(p); err != nil {
			return nil, false, err
		}
		if k != nil {
			key = k
		}
		if done {
			return key, true, nil
		}
	}
	return key, false, nil
}

// text reads lines up to and with the one that begins with SSH-.
func (r *Reader) text(p []byte) (rest []byte, err error) {
	for i, b := range p {
		if b != '\n' {
			if r.lineLen < len(r.line) {
				r.line[r.lineLen] = b
			}
			if r.lineLen++; r.lineLen > maxLine {
				return nil, unread("a line is too long")
			}
			continue
		}
		r.binary = string(r.line[:]) == "SSH-" && r.lineLen >= len(r.line)
		r.line, r.lineLen = [4]byte{}, 0
		if r.binary {
			return p[i+1:], nil
		}
		if r.lines++; r.lines > maxLines {
			return nil, unread("too many lines precede its identification")
		}
	}
	return nil, nil
}

const headLen = 6 // uint32 length, byte padding, byte message

// piece reads what p has of one packet.
func (r *Reader) piece(p []byte) (rest, key []byte, done bool, err error) {
	if len(r.head) < headLen {
		n := min(headLen-len(r.head), len(p))
		r.head = append(r.head, p[:n]...)
		if p = p[n:]; len(r.head) < headLen {
			return p, nil, false, nil
		}
		if err := r.begin(); err != nil {
			return nil, nil, false, err
		}
	}
	n := min(r.left, len(p))
	if r.kept {
		r.packet = append(r.packet, p[:n]...)
	}
	r.left -= n
	if p = p[n:]; r.left > 0 {
		return p, nil, false, nil
	}
	message := r.head[headLen-1]
	payload := r.packet
	if r.kept {
		payload = payload[:len(payload)-r.padding]
	}
	r.head, r.packet, r.kept = r.head[:0], nil, false
	switch message {
	case msgNewKeys:
		if !r.shown {
			return nil, nil, false, unread("it shows no key")
		}
		return nil, nil, true, nil
	case msgReply, msgGexReply:
		key, err = r.answer(message, payload)
	}
	return p, key, false, err
}

// begin takes up a packet whose head is complete.
func (r *Reader) begin() error {
	length, message := int(binary.BigEndian.Uint32(r.head)), r.head[headLen-1]
	r.padding = int(r.head[4])
	if length > maxPacket || length < r.padding+2 {
		return unread("a packet's length makes no sense")
	}
	if message >= firstOfAuth || message == 0 {
		return unread(fmt.Sprintf("message %d does not belong to it", message))
	}
	r.left = length - 2 // without the padding's length and the message
	if r.kept = message == msgReply || message == msgGexReply; r.kept && r.left > maxAnswer {
		return unread("its answer is too long")
	}
	return nil
}

// answer finds the key in an answer; a group has none.
func (r *Reader) answer(message byte, payload []byte) (key []byte, err error) {
	strings, ok := split(payload)
	switch {
	case ok && message == msgReply && len(strings) == 2 && !r.shown:
		return nil, nil
	case !ok, len(strings) != 3:
		return nil, unread("its answer does not parse")
	case r.shown:
		return nil, unread("it answers twice")
	}
	r.shown = true
	return strings[0], nil
}

// split takes a payload apart into the strings that fill it, of which there are at most three.
func split(p []byte) (strings [][]byte, ok bool) {
	for len(p) > 0 {
		if len(p) < 4 || len(strings) == 3 {
			return nil, false
		}
		n := binary.BigEndian.Uint32(p)
		if p = p[4:]; uint64(n) > uint64(len(p)) {
			return nil, false
		}
		strings = append(strings, p[:n:n])
		p = p[n:]
	}
	return strings, true
}

func unread(why string) error { return fmt.Errorf("%w: %s", ErrUnread, why) }
