// Package people keeps who may sign in, and who has, in the database, as the parts of sign-in want it.
//
//	box := people.NewBox(identity.Derive("sealed in the database"))
//	accounts := &people.Accounts{Store: db, Box: box}  // a signin.Accounts
//	signIns := people.SignIns{Store: db, Box: box}     // an auth.SignInStore
//	logins := &people.Logins{Store: db, Box: box}     // a signin.Logins, of a fleet
//	waiting := &people.Waiting{Store: db, Box: box}   // a pending.Store, of a fleet
//
// # What is sealed
//
// The database may lie on another machine, and backups of it anywhere. What would be worth something there is sealed with a
// key that is not in it: secrets of one-time codes, refresh tokens of identity providers, and sign-ins that
// have begun. Passwords and recovery codes are hashes; passkeys are public keys.
//
// # Local accounts and those of providers
//
// Both are rows of one table, so that a name belongs to one person: the source is "local" or the issuer, the subject what
// the source calls the person. The subject of a local account is its passkey handle.
package people

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
)

// A Box seals what is put into the database.
type Box struct{ aead cipher.AEAD }

// NewBox returns a Box of a key that the appliances of a fleet share.
func NewBox(key [32]byte) *Box {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // of a key of another length
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // of a cipher with other blocks
	}
	return &Box{aead}
}

// Seal returns what only Open with the same label opens. Nothing is sealed to nothing.
func (b *Box) Seal(secret []byte, label string) []byte {
	if len(secret) == 0 {
		return nil
	}
	return b.aead.Seal(nil, nil, secret, []byte(label))
}

// Open is the other way round.
func (b *Box) Open(sealed []byte, label string) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, nil
	}
	secret, err := b.aead.Open(nil, nil, sealed, []byte(label))
	if err != nil {
		return nil, errors.New("a secret in the database was not sealed here: is identity.key that of the fleet?")
	}
	return secret, nil
}
