package password

import (
	_ "embed"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"sallyport/appliance/auth"
)

// Length in characters. Long ones are welcome: a sentence is easier to keep in mind than a jumble, and harder to guess.
const (
	minLength = 12
	maxLength = 128
	maxBytes  = maxLength * utf8.UTFMax
)

// ErrRule is what the errors of Check are to errors.Is.
var ErrRule = &auth.Error{Code: "E_PASSWORD", Sentence: "this password will not do"}

// common holds the passwords of twelve characters and more that every list of guesses begins with, in lower case and
// one a line. Shorter ones are refused by their length.
//
//go:embed common.txt
var common string

// Check returns nil if a password may be user's, else an error for the person that is ErrRule and does not repeat it.
func Check(user, password string) error {
	// The first look is at the bytes, so that nothing is done with a megabyte.
	if len(password) > maxBytes {
		return errTooLong
	}
	if !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl) {
		return rule("a password cannot hold control characters", "type it again, by hand")
	}
	password = norm.NFC.String(password)
	folded := strings.ToLower(password)
	switch n := utf8.RuneCountInString(password); {
	case n < minLength:
		return rule(fmt.Sprintf("a password has at least %d characters, this one has %d", minLength, n), "a sentence of a few words will do")
	case n > maxLength:
		return errTooLong
	case nearName(folded, user):
		return rule("this password is little more than the user name", "a sentence of a few words will do")
	case isCommon(folded) || monotone(folded):
		return rule("this password is among the first that anybody would guess", "a sentence of a few words will do")
	}
	return nil
}

var errTooLong = rule(fmt.Sprintf("a password has at most %d characters", maxLength), "a sentence of a few words will do")

func rule(sentence, hint string) error {
	return &auth.Error{Code: ErrRule.Code, Sentence: sentence, Hint: hint}
}

// nearName reports whether fewer than eight characters are left of a password without the user name in it.
func nearName(folded, user string) bool {
	name, _, _ := strings.Cut(user, "@")
	for _, part := range []string{user, name} {
		if part == "" {
			continue
		}
		if rest := strings.ReplaceAll(folded, part, ""); rest != folded && utf8.RuneCountInString(rest) < 8 {
			return true
		}
	}
	return false
}

func isCommon(folded string) bool {
	for line := range strings.Lines(common) {
		if strings.TrimSpace(line) == folded {
			return true
		}
	}
	return false
}

// monotone reports whether a password has fewer than four different characters.
func monotone(folded string) bool {
	seen := make(map[rune]bool)
	for _, r := range folded {
		seen[r] = true
	}
	return len(seen) < 4
}
