package desktop

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"sallyport/appliance/policy"
	"sallyport/frame"
)

// A start is the person's first message.
type start struct {
	User     string  `json:"user"`
	Domain   string  `json:"domain"`
	Password *secret `json:"password"` // nil: the one that is kept
	Width    int     `json:"width"`
	Height   int     `json:"height"`
	CredSSP  string  `json:"credssp"`
}

// Bounds of what a person types, and of a desktop in pixels.
const (
	maxName     = 256
	maxPassword = 512 // in bytes of UTF-16

	minSize, maxSize = 200, 8192
)

func parseStart(b []byte) (s start, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if d.Decode(&s) != nil || d.More() {
		return s, errMessage
	}
	switch {
	case len(s.User) > maxName, len(s.Domain) > maxName, strings.ContainsRune(s.User+s.Domain, 0):
		return s, frame.Refuse("E_USAGE", "the user's name or domain is too long, or has characters that no name has", "check what was typed")
	case s.Width != 0 || s.Height != 0:
		if s.Width < minSize || s.Width > maxSize || s.Height < minSize || s.Height > maxSize {
			return s, frame.Refuse("E_USAGE", fmt.Sprintf("a desktop of %d by %d pixels is too small or too large", s.Width, s.Height), fmt.Sprintf("each must be %d to %d", minSize, maxSize))
		}
	}
	if s.CredSSP != "" && s.CredSSP != "appliance" && s.CredSSP != policy.CredSSPBrowser {
		return s, errMessage
	}
	if domain, user, ok := strings.Cut(s.User, `\`); ok && s.Domain == "" {
		s.Domain, s.User = domain, user
	}
	return s, nil
}

// A secret is a text as UTF-16, that no string is made of on the way.
type secret []byte

// UnmarshalJSON implements json.Unmarshaler.
func (s *secret) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' {
		return errMessage
	}
	text := make([]byte, 0, 2*len(b))
	for b = b[1 : len(b)-1]; len(b) > 0; {
		var unit []uint16
		var buf [2]uint16
		if b[0] == '\\' {
			u, n, err := unescape(b)
			if err != nil {
				return err
			}
			unit, b = append(buf[:0], u), b[n:]
		} else {
			r, n := utf8.DecodeRune(b)
			unit, b = utf16.AppendRune(buf[:0], r), b[n:]
		}
		for _, u := range unit {
			text = binary.LittleEndian.AppendUint16(text, u)
		}
	}
	if len(text) > maxPassword {
		clear(text)
		return errMessage
	}
	*s = text
	return nil
}

// unescape reads an escape of JSON, which is known to be a good one.
func unescape(b []byte) (unit uint16, length int, err error) {
	if len(b) >= 6 && b[1] == 'u' {
		u, err := strconv.ParseUint(string(b[2:6]), 16, 16)
		return uint16(u), 6, err
	}
	const escapes, meanings = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if len(b) >= 2 {
		if i := strings.IndexByte(escapes, b[1]); i >= 0 {
			return uint16(meanings[i]), 2, nil
		}
	}
	return 0, 0, errMessage
}

// A vault keeps a session's password, sealed by a key that is elsewhere in memory: who finds the one has nothing yet.
type vault struct {
	mu           sync.Mutex
	user, domain string
	key          *[32]byte // nil: nothing is kept
	sealed       []byte
}

func (v *vault) cipher() cipher.AEAD {
	block, err := aes.NewCipher(v.key[:])
	if err != nil {
		panic(err) // the length is a constant
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // a constant too
	}
	return aead
}

// keep keeps a user's password in place of the one before.
func (v *vault) keep(user, domain string, password []byte) {
	v.wipe()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.user, v.domain, v.key = user, domain, new([32]byte)
	rand.Read(v.key[:])
	v.sealed = v.cipher().Seal(nil, nil, password, nil)
}

// kept returns what is kept. Whoever has the password wipes it.
func (v *vault) kept() (user, domain string, password []byte, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.key == nil {
		return "", "", nil, false
	}
	password, err := v.cipher().Open(nil, nil, v.sealed, nil)
	return v.user, v.domain, password, err == nil
}

// wipe forgets.
func (v *vault) wipe() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.key != nil {
		clear(v.key[:])
		clear(v.sealed)
	}
	v.key, v.sealed = nil, nil
}
