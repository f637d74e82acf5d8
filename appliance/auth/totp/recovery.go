package totp

import (
	"crypto/sha256"
	"crypto/subtle"

	"sallyport/appliance/auth"
)

// recoveryCodes is how many a person gets: enough to lose a phone a few times and print them on a card.
const recoveryCodes = 10

// NewRecoveryCodes returns ten codes to be shown once, and what to keep of them. Each has 80 random bits, so a plain
// SHA-256 of it tells nothing.
func NewRecoveryCodes() (shown []string, kept [][sha256.Size]byte) {
	for range recoveryCodes {
		text, sum := auth.RandomCode()
		shown, kept = append(shown, text), append(kept, sum)
	}
	return shown, kept
}

// FindRecoveryCode returns which of the kept codes a person typed. The caller removes it, in one step of the store that
// says whether it was still there: a code is good once.
func FindRecoveryCode(kept [][sha256.Size]byte, typed string) (found [sha256.Size]byte, ok bool) {
	sum, plausible := auth.HashCode(typed)
	if !plausible {
		return found, false
	}
	for _, k := range kept {
		if subtle.ConstantTimeCompare(k[:], sum[:]) == 1 {
			found, ok = k, true
		}
	}
	return found, ok
}
