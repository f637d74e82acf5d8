package files

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"

	"sallyport/frame"
)

// The most bytes of a path and of a name in it, as most systems have it.
const (
	maxPath = 4096
	maxName = 255
)

// A place is a path on the target, and the same for eyes.
type place struct {
	Path []byte `json:"path"`
	Text string `json:"text"`
}

func placeOf(path string) place { return place{[]byte(path), textOf(path)} }

// textOf is a name or a path for eyes: all that is no text, or that changes how the text around it is read, is an escape.
func textOf(name string) string {
	var b strings.Builder
	for len(name) > 0 {
		r, n := utf8.DecodeRuneInString(name)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, name[0])
		case !hidden(r):
			b.WriteString(name[:n])
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		name = name[n:]
	}
	return b.String()
}

// hidden are control characters, line and paragraph separators, and those that format: but not the joiners, which are a part of
// how people write.
func hidden(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp, unicode.Cf) && r != 0x200c && r != 0x200d
}

// checkPath says why something is no path on a target.
func checkPath(p []byte) error {
	switch {
	case len(p) == 0 || p[0] != '/':
		return frame.Refuse("E_NAME", "a path begins with /", "")
	case len(p) > maxPath:
		return frame.Refuse("E_NAME", fmt.Sprintf("a path has %d bytes at most", maxPath), "choose a folder that is not so deep")
	case len(p) == 1:
		return nil
	}
	for name := range bytes.SplitSeq(p[1:], []byte("/")) {
		if err := checkName(name); err != nil {
			return err
		}
	}
	return nil
}

// checkName says why something is not the name of a file or a folder.
func checkName(name []byte) error {
	switch {
	case len(name) == 0:
		return frame.Refuse("E_NAME", "a name has at least one character", "")
	case len(name) > maxName:
		return frame.Refuse("E_NAME", fmt.Sprintf("a name has %d bytes at most", maxName), "choose a shorter one")
	case string(name) == "." || string(name) == "..":
		return frame.Refuse("E_NAME", "this name stands for a folder already", "choose another one")
	case bytes.ContainsAny(name, "/\x00"):
		return frame.Refuse("E_NAME", "a name contains neither / nor a null byte", "choose another one")
	}
	return nil
}

// checkNew says why a path cannot be made: its last name has to be readable.
func checkNew(p []byte) error {
	if len(p) == 1 {
		return frame.Refuse("E_NAME", "/ is there already", "choose a name")
	}
	name := path.Base(string(p))
	if !utf8.ValidString(name) {
		return frame.Refuse("E_NAME", "a new name is text in UTF-8", "choose another one")
	}
	if strings.ContainsFunc(name, unreadable) {
		return frame.Refuse("E_NAME", "a new name has no control characters, and none that turn the direction of text", "rename the file on this computer first")
	}
	return nil
}

func unreadable(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// partOf is where the bytes of an upload go until they are whole.
func partOf(who, to string, size, modified int64) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %d", who, to, size, modified))
	ending := ".part-" + hex.EncodeToString(sum[:4])
	dir, name := path.Split(to)
	return dir + cut(name, maxName-len(ending)) + ending
}

// another is the nth name beside one that is taken: a (2).txt.
func another(to string, n int) string {
	dir, name := path.Split(to)
	stem, ending := name, ""
	if dot := strings.LastIndexByte(name, '.'); dot > 0 && len(name)-dot <= 32 {
		stem, ending = name[:dot], name[dot:]
	}
	ending = fmt.Sprintf(" (%d)%s", n, ending)
	return dir + cut(stem, maxName-len(ending)) + ending
}

// cut shortens a name to n bytes, and breaks no character.
func cut(name string, n int) string {
	if len(name) <= n {
		return name
	}
	for n > 0 && !utf8.RuneStart(name[n]) {
		n--
	}
	return name[:n]
}
