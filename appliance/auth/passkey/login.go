package passkey

import (
	"bytes"
	"context"
	"fmt"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"sallyport/appliance/auth"
)

// ErrNone is the answer to a person who has no passkey.
var ErrNone = &auth.Error{Code: "E_PASSKEY_NONE", Sentence: "this account has no passkey", Hint: "use another way to sign in"}

// BeginLogin asks for one of a person's passkeys. It says which there are, so it is for those whose password was right.
func (rp *RelyingParty) BeginLogin(ctx context.Context, u User) (Ask, error) {
	if len(u.Credentials) == 0 {
		return Ask{}, ErrNone
	}
	a, err := u.account()
	if err != nil {
		return Ask{}, err
	}
	options, session, err := rp.web.BeginLogin(a)
	if err != nil {
		return Ask{}, fmt.Errorf("ask for a passkey: %w", err)
	}
	return rp.wait(ctx, "login ", session, options)
}

// FinishLogin returns the passkey that was used, with its counter moved on; it replaces the stored one.
func (rp *RelyingParty) FinishLogin(ctx context.Context, u User, id string, response []byte) (Credential, error) {
	a, err := u.account()
	if err != nil {
		return Credential{}, err
	}
	session, err := rp.resume(ctx, "login ", id)
	if err != nil {
		return Credential{}, err
	}
	if !bytes.Equal(session.UserID, u.Handle) {
		return Credential{}, refuse("the ceremony was begun for another account")
	}
	parsed, err := parseAssertion(response)
	if err != nil {
		return Credential{}, err
	}
	used, err := rp.web.ValidateLogin(a, session, parsed)
	if err != nil {
		return Credential{}, refuse("the passkey does not verify: %s", explain(err))
	}
	return accept(used)
}

// BeginAny asks for any passkey that the authenticator has for this appliance.
func (rp *RelyingParty) BeginAny(ctx context.Context) (Ask, error) {
	options, session, err := rp.web.BeginDiscoverableLogin()
	if err != nil {
		return Ask{}, fmt.Errorf("ask for a passkey: %w", err)
	}
	return rp.wait(ctx, "any ", session, options)
}

// FinishAny returns the passkey that was used and whose it is. Lookup finds an account by its handle, and reports false
// where there is none.
func (rp *RelyingParty) FinishAny(ctx context.Context, id string, response []byte, lookup func(handle []byte) (User, bool, error)) (User, Credential, error) {
	session, err := rp.resume(ctx, "any ", id)
	if err != nil {
		return User{}, Credential{}, err
	}
	parsed, err := parseAssertion(response)
	if err != nil {
		return User{}, Credential{}, err
	}
	if len(parsed.Response.UserHandle) != handleSize {
		return User{}, Credential{}, refuse("the response names no account")
	}
	// The library words every error of its handler as a refusal; one of the store's is none.
	u, known, err := lookup(parsed.Response.UserHandle)
	if err != nil {
		return User{}, Credential{}, fmt.Errorf("find the account of a passkey: %w", err)
	}
	if !known {
		return User{}, Credential{}, refuse("no account has the handle that the passkey holds")
	}
	a, err := u.account()
	if err != nil {
		return User{}, Credential{}, err
	}
	found := func(_, _ []byte) (webauthn.User, error) { return a, nil }
	_, used, err := rp.web.ValidatePasskeyLogin(found, session, parsed)
	if err != nil {
		return User{}, Credential{}, refuse("the passkey does not verify: %s", explain(err))
	}
	cred, err := accept(used)
	return u, cred, err
}

func parseAssertion(response []byte) (*protocol.ParsedCredentialAssertionData, error) {
	if len(response) > maxResponse {
		return nil, refuse("the response has %d bytes, more than %d", len(response), maxResponse)
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(response)
	if err != nil {
		return nil, refuse("the response cannot be read: %s", explain(err))
	}
	return parsed, nil
}

// accept refuses a passkey whose counter stands still or goes back, which is what a copy of it looks like. Passkeys that
// are synchronised between devices do not count: theirs is always zero.
func accept(used *webauthn.Credential) (Credential, error) {
	if used.Authenticator.CloneWarning {
		return Credential{}, refuse("the counter of the passkey did not go up from %d: there may be a copy of it", used.Authenticator.SignCount)
	}
	return credential(used)
}
