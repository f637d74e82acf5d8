package signin

import (
	"crypto/rand"
	"strings"
)

// letters are those of codes that people compare and type: no vowels, so that no words come about, and nothing that
// looks like a digit. Eight of them are 34 bits.
const (
	letters    = "BCDFGHJKLMNPQRSTVWXZ"
	codeLength = 8
	maxTyped   = 64
)

// newCode returns a random code without its dash.
func newCode() string {
	const even = 256 - 256%len(letters) // bytes from here on would favour the first letters
	code := make([]byte, 0, codeLength)
	for len(code) < codeLength {
		var b [1]byte
		rand.Read(b[:]) // never fails: it would end the process
		if int(b[0]) < even {
			code = append(code, letters[int(b[0])%len(letters)])
		}
	}
	return string(code)
}

// showCode returns a code as people see it, ABCD-EFGH.
func showCode(code string) string { return code[:codeLength/2] + "-" + code[codeLength/2:] }

var typedCode = strings.NewReplacer("-", "", " ", "", "\t", "", "\r", "", "\n", "")

// readCode returns a code as somebody typed it; false if it cannot be one.
func readCode(typed string) (string, bool) {
	if len(typed) > maxTyped {
		return "", false
	}
	code := typedCode.Replace(strings.ToUpper(typed))
	bad := func(r rune) bool { return !strings.ContainsRune(letters, r) }
	return code, len(code) == codeLength && !strings.ContainsFunc(code, bad)
}
