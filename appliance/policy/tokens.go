package policy

import (
	"strings"
	"unicode/utf8"

	"sallyport/appliance/policy/yamlfile"
)

// A token is a word of a *.cedar file with its place. Cedar's parser keeps the place of whole policies only; tokens find
// that of what is wrong inside one, and bound what the parser is given.
type token struct {
	text   string // a text in quotes has them; empty at the end of a text or a comment that does not end
	at     yamlfile.Position
	offset int
}

// tokenize splits a file into its words, without spaces and comments. Its last token is empty if something does not end.
func tokenize(data string) (tokens []token) {
	at := yamlfile.Position{Line: 1, Column: 1}
	for i := 0; i < len(data); {
		n, kind := tokenLength(data[i:])
		if kind != blank {
			t := token{data[i : i+n], at, i}
			if kind == unended {
				return append(tokens, token{"", at, i})
			}
			tokens = append(tokens, t)
		}
		for _, r := range data[i : i+n] {
			at.Column++
			if r == '\n' {
				at = yamlfile.Position{Line: at.Line + 1, Column: 1}
			}
		}
		i += n
	}
	return tokens
}

type tokenKind int

const (
	blank tokenKind = iota
	solid
	unended
)

// tokenLength is the length of the first token of s, which is not empty.
func tokenLength(s string) (int, tokenKind) {
	switch {
	case strings.ContainsRune(" \t\r\n", rune(s[0])):
		return 1, blank
	case strings.HasPrefix(s, "//"):
		if i := strings.IndexByte(s, '\n'); i >= 0 {
			return i, blank
		}
		return len(s), blank
	case strings.HasPrefix(s, "/*"):
		if i := strings.Index(s[2:], "*/"); i >= 0 {
			return i + 4, blank
		}
		return len(s), unended
	case s[0] == '"':
		for i := 1; i < len(s) && s[i] != '\n'; i++ {
			switch s[i] {
			case '\\':
				i++
			case '"':
				return i + 1, solid
			}
		}
		return len(s), unended
	case isWordByte(s[0]):
		n := 1
		for n < len(s) && isWordByte(s[n]) {
			n++
		}
		return n, solid
	}
	for _, operator := range []string{"::", "==", "!=", "<=", ">=", "&&", "||"} {
		if strings.HasPrefix(s, operator) {
			return 2, solid
		}
	}
	_, n := utf8.DecodeRuneInString(s)
	return n, solid
}

func isWordByte(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}
