package passkey

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"sallyport/appliance/auth"
)

// ErrTooMany is the answer to a person who has all the passkeys that an account may have.
var ErrTooMany = &auth.Error{Code: "E_PASSKEY_LIMIT", Sentence: fmt.Sprintf("an account has at most %d passkeys", maxCredentials), Hint: "remove one that is not used any more"}

// BeginRegistration asks a signed-in person's browser for a new passkey, on an authenticator that holds none of theirs.
func (rp *RelyingParty) BeginRegistration(ctx context.Context, u User) (Ask, error) {
	a, err := u.account()
	if err != nil {
		return Ask{}, err
	}
	if len(a.credentials) == maxCredentials {
		return Ask{}, ErrTooMany
	}
	options, session, err := rp.web.BeginRegistration(a, webauthn.WithExclusions(a.credentials.CredentialDescriptors()))
	if err != nil {
		return Ask{}, fmt.Errorf("ask for a new passkey: %w", err)
	}
	return rp.wait(ctx, "register ", session, options)
}

// FinishRegistration returns the passkey that the browser made, to be stored with the account.
func (rp *RelyingParty) FinishRegistration(ctx context.Context, u User, id string, response []byte) (Credential, error) {
	a, err := u.account()
	if err != nil {
		return Credential{}, err
	}
	if len(a.credentials) == maxCredentials {
		return Credential{}, ErrTooMany
	}
	session, err := rp.resume(ctx, "register ", id)
	if err != nil {
		return Credential{}, err
	}
	if !bytes.Equal(session.UserID, u.Handle) {
		return Credential{}, refuse("the ceremony was begun for another account")
	}
	if len(response) > maxResponse {
		return Credential{}, refuse("the response has %d bytes, more than %d", len(response), maxResponse)
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes(response)
	if err != nil {
		return Credential{}, refuse("the response cannot be read: %s", explain(err))
	}
	made, err := rp.web.CreateCredential(a, session, parsed)
	if err != nil {
		return Credential{}, refuse("the new passkey does not verify: %s", explain(err))
	}
	if slices.ContainsFunc(u.Credentials, func(c Credential) bool { return bytes.Equal(c.ID, made.ID) }) {
		return Credential{}, refuse("the account has this passkey already")
	}
	return credential(made)
}

// explain has the library's reason for those who read the log, with what it says to developers.
func explain(err error) string {
	var e *protocol.Error
	if !errors.As(err, &e) {
		return fmt.Sprintf("%.300q", err.Error())
	}
	if e.DevInfo == "" {
		return fmt.Sprintf("%.300q", e.Details)
	}
	return fmt.Sprintf("%.300q (%.300q)", e.Details, e.DevInfo)
}
