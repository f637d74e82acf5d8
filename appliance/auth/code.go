package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// crockford is base32 without the letters that are taken for digits or for each other when read aloud.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// codeBytes is 80 bits: at the ten failures a second that the limiter lets through, guessing one of a thousand live
// codes in their ten minutes has a chance of 5 in 10^18.
const codeBytes = 10

// A hash is the SHA-256 of a code, all that is kept of it.
type hash = [sha256.Size]byte

// RandomCode returns a fresh code as a person reads it, XXXX-XXXX-XXXX-XXXX, and its hash.
func RandomCode() (text string, kept [sha256.Size]byte) {
	var b [codeBytes]byte
	rand.Read(b[:]) // never fails: it would end the process
	s := crockford.EncodeToString(b[:])
	return s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:], sha256.Sum256(b[:])
}

// readable undoes what hands and eyes do to a code.
var readable = strings.NewReplacer("-", "", " ", "", "\t", "", "\r", "", "\n", "", "O", "0", "I", "1", "L", "1")

// maxTyped bounds what is taken for a code before it is looked at.
const maxTyped = 256

// HashCode returns the hash of a code as a person typed it; false if it cannot be one.
func HashCode(typed string) (kept [sha256.Size]byte, ok bool) {
	if len(typed) > maxTyped {
		return hash{}, false
	}
	text := readable.Replace(strings.ToUpper(typed))
	b, err := crockford.DecodeString(text)
	if err != nil || len(text) != crockford.EncodedLen(codeBytes) {
		return hash{}, false
	}
	return sha256.Sum256(b), true
}
