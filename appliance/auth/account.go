package auth

import "time"

// An Account is a person's name as administrators see it.
type Account struct {
	User      string
	Source    string // the issuer that vouches for the person; empty for a local account
	Created   time.Time
	Disabled  time.Time // zero while it may sign in
	LastLogin time.Time
	Factors   []string // of a local account: password, totp, passkey
}
