package credssp

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"encoding/binary"
	"errors"
	"strings"
	"time"
	"unicode/utf16"

	//lint:ignore SA1019 NTLM is what the servers speak; its weak parts are within TLS here
	"golang.org/x/crypto/md4"
)

// flags are those that are asked for and must be agreed (MS-NLMP 2.2.2.5): Unicode, signing and sealing with keys of 128
// bits that are exchanged, extended session security, information on the target, the version.
const (
	flags     = 0xe2888235
	mustAgree = 0x60080031
)

const signature = "NTLMSSP\x00"

// ourVersion is Windows 10's, with NTLM's revision 15.
var ourVersion = []byte{10, 0, 0x63, 0x45, 0, 0, 0, 15}

// negotiateMessage begins NTLM.
func negotiateMessage() []byte {
	b := append([]byte(signature), 1, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = append(b, make([]byte, 16)...)
	return append(b, ourVersion...)
}

// A challenge is the server's answer.
type challenge struct {
	raw    []byte
	flags  uint32
	nonce  [8]byte
	target []byte // what it says of itself, as pairs
	time   []byte // from those; nil: it says none
}

var errChallenge = errors.New("the target's NTLM challenge does not parse")

// Pairs (MS-NLMP 2.2.2.1).
const (
	pairEnd   = 0
	pairFlags = 6
	pairTime  = 7

	withMIC = 2
)

const maxTarget = 4 << 10

func parseChallenge(b []byte) (c challenge, err error) {
	if len(b) < 48 || string(b[:8]) != signature || binary.LittleEndian.Uint32(b[8:]) != 2 {
		return c, errChallenge
	}
	c.raw, c.flags, c.nonce = b, binary.LittleEndian.Uint32(b[20:]), [8]byte(b[24:])
	if c.flags&mustAgree != mustAgree {
		return c, errors.New("the target's NTLM does not seal with keys of 128 bits")
	}
	length, at := int(binary.LittleEndian.Uint16(b[40:])), int64(binary.LittleEndian.Uint32(b[44:]))
	if length > maxTarget || at+int64(length) > int64(len(b)) {
		return c, errChallenge
	}
	for rest := b[at : at+int64(length)]; ; {
		if len(rest) < 4 {
			return c, errChallenge
		}
		id, n := binary.LittleEndian.Uint16(rest), int(binary.LittleEndian.Uint16(rest[2:]))
		if n > len(rest)-4 {
			return c, errChallenge
		}
		switch {
		case id == pairEnd:
			return c, nil
		case id == pairTime && n == 8:
			c.time = rest[4:12]
		}
		if id != pairFlags {
			c.target = append(c.target, rest[:4+n]...)
		}
		rest = rest[4+n:]
	}
}

// respond makes the message that proves the password, and the key that both sides then have.
func (c challenge) respond(who Credentials, negotiate []byte, nonce [8]byte, session [16]byte, now time.Time) (message, key []byte) {
	target := bytes.Clone(c.target)
	stamp := c.time
	if stamp != nil {
		target = append(target, pairFlags, 0, 4, 0, withMIC, 0, 0, 0)
	} else {
		stamp = binary.LittleEndian.AppendUint64(nil, uint64(now.Unix()+11644473600)*1e7) // from 1601, in steps of 100 ns
	}
	target = append(target, pairEnd, 0, 0, 0)
	owf := ntowf(who)
	proof, base := prove(owf, c.nonce, nonce, stamp, target)
	lm := make([]byte, 24)
	if c.time == nil {
		lm = append(mac(owf, c.nonce[:], nonce[:]), nonce[:]...)
	}
	encrypted := make([]byte, 16)
	crypt(base, encrypted, session[:])
	message = authenticateMessage(lm, proof, UTF16(who.Domain), UTF16(who.User), encrypted, c.flags&flags)
	if c.time != nil {
		copy(message[micAt:], mac(session[:], negotiate, c.raw, message))
	}
	return message, session[:]
}

const micAt, payloadAt = 72, 88

// authenticateMessage lays the last message out, with a MIC of zeros.
func authenticateMessage(lm, nt, domain, user, session []byte, flags uint32) []byte {
	b := append([]byte(signature), 3, 0, 0, 0)
	var payload []byte
	for _, field := range [][]byte{lm, nt, domain, user, nil, session} {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(field)))
		b = binary.LittleEndian.AppendUint16(b, uint16(len(field)))
		b = binary.LittleEndian.AppendUint32(b, uint32(payloadAt+len(payload)))
		payload = append(payload, field...)
	}
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = append(b, ourVersion...)
	b = append(b, make([]byte, payloadAt-micAt)...)
	return append(b, payload...)
}

// ntowf is the key that a password makes (MS-NLMP 3.3.2).
func ntowf(who Credentials) []byte {
	h := md4.New()
	h.Write(who.Password)
	return mac(h.Sum(nil), UTF16(strings.ToUpper(who.User)), UTF16(who.Domain))
}

// prove makes the response to a challenge and the key that comes of it.
func prove(owf []byte, challenge, nonce [8]byte, stamp, target []byte) (response, key []byte) {
	temp := []byte{1, 1, 0, 0, 0, 0, 0, 0}
	temp = append(append(temp, stamp...), nonce[:]...)
	temp = append(append(append(temp, 0, 0, 0, 0), target...), 0, 0, 0, 0)
	proof := mac(owf, challenge[:], temp)
	return append(proof, temp...), mac(owf, proof)
}

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func crypt(key, to, from []byte) {
	c, err := rc4.NewCipher(key)
	if err != nil {
		panic(err) // the length is a constant
	}
	c.XORKeyStream(to, from)
}

// A seal is one direction of the session.
type seal struct {
	sign   []byte
	cipher *rc4.Cipher
	number uint32
}

func newSeal(session []byte, toServer bool) *seal {
	direction := "server-to-client"
	if toServer {
		direction = "client-to-server"
	}
	derived := func(use string) []byte {
		sum := md5.Sum(append(bytes.Clone(session), "session key to "+direction+" "+use+" key magic constant\x00"...))
		return sum[:]
	}
	c, err := rc4.NewCipher(derived("sealing"))
	if err != nil {
		panic(err) // the length is a constant
	}
	return &seal{sign: derived("signing"), cipher: c}
}

// signed is a message's signature. The message itself must have gone through the cipher.
func (s *seal) signed(message []byte) []byte {
	number := binary.LittleEndian.AppendUint32(nil, s.number)
	s.number++
	sum := mac(s.sign, number, message)[:8]
	s.cipher.XORKeyStream(sum, sum)
	return append(append([]byte{1, 0, 0, 0}, sum...), number...)
}

func (s *seal) seal(message []byte) []byte {
	sealed := make([]byte, len(message))
	s.cipher.XORKeyStream(sealed, message)
	return append(s.signed(message), sealed...)
}

func (s *seal) open(b []byte) ([]byte, error) {
	bad := errors.New("the target's seal does not fit")
	if len(b) < 16 {
		return nil, bad
	}
	message := make([]byte, len(b)-16)
	s.cipher.XORKeyStream(message, b[16:])
	if !hmac.Equal(s.signed(message), b[:16]) {
		return nil, bad
	}
	return message, nil
}

// UTF16 is a text as NTLM has it: UTF-16, the low byte first.
func UTF16(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}
