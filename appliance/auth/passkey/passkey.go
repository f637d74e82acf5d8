// Package passkey registers passkeys (WebAuthn) and signs people in by them.
//
//	rp, err := passkey.New(passkey.Config{Host: "bastion.example", Waiting: store})
//	ask, err := rp.BeginRegistration(ctx, user)                      // ask.Options go to navigator.credentials.create
//	cred, err := rp.FinishRegistration(ctx, user, ask.ID, response)  // cred is to be stored with the account
//
//	ask, err := rp.BeginLogin(ctx, user)                             // navigator.credentials.get
//	cred, err := rp.FinishLogin(ctx, user, ask.ID, response)         // cred replaces the stored one of its ID
//
// # One factor that is two
//
// Every ceremony demands user verification: the authenticator has asked for a PIN, a finger or a face. So a passkey is
// something that the person has and something that they know or are, and a sign-in by it counts as multi-factor.
//
// # A person who has not said who they are
//
// BeginAny and FinishAny sign in whoever the authenticator says: the passkey holds the account's handle, and the caller
// finds the account by it. A handle is random and says nothing about the person.
//
// # What the server keeps meanwhile
//
// Challenge and conditions lie in a pending.Store under an id. They can be taken once, so a response is good once.
//
// Which make of authenticator it is does not matter here: attestation is not asked for.
package passkey

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/pending"
)

const (
	ceremonyTime   = 5 * time.Minute
	maxResponse    = 64 << 10
	maxCredentials = 32 // of one account
	handleSize     = 32
)

// ErrRefused is what a person is told of any ceremony that fails. The Detail in it is for the log.
var ErrRefused = &auth.Error{Code: "E_PASSKEY", Sentence: "the passkey was not accepted", Hint: "try again; if it keeps failing use another way to sign in"}

// A Detail says exactly why a ceremony failed.
type Detail struct{ Reason string }

func (d *Detail) Error() string { return d.Reason }

// A refusal reads as ErrRefused to the person and has the Detail for the log.
type refusal struct{ detail *Detail }

func (r *refusal) Error() string   { return ErrRefused.Error() }
func (r *refusal) Unwrap() []error { return []error{ErrRefused, r.detail} }

func refuse(format string, args ...any) error {
	return &refusal{&Detail{fmt.Sprintf(format, args...)}}
}

// A User is an account as an authenticator sees it.
type User struct {
	Handle      []byte // of NewHandle, kept with the account for good
	Name        string
	Credentials []Credential
}

// NewHandle returns the handle of a new account.
func NewHandle() []byte {
	b := make([]byte, handleSize)
	rand.Read(b) // never fails: it would end the process
	return b
}

// A Credential is what is kept of a passkey. Nothing in it is secret.
type Credential struct {
	ID     []byte
	Record json.RawMessage // the library's, to be stored as it is
	Name   string          `json:",omitempty"` // that its owner has given it
}

// An Ask goes to the browser, which answers with a response and the ID.
type Ask struct {
	ID      string
	Options json.RawMessage
}

// Config says who asks for passkeys.
type Config struct {
	Host    string   // that passkeys belong to, without a port; they are lost when it changes
	Origins []string // of the pages that may ask; default https:// and the Host
	Title   string   // that authenticators show; default "Sallyport"
	Waiting pending.Store
}

func (c Config) withDefaults() Config {
	if len(c.Origins) == 0 {
		c.Origins = []string{"https://" + c.Host}
	}
	c.Title = cmp.Or(c.Title, "Sallyport")
	return c
}

// A RelyingParty runs ceremonies.
type RelyingParty struct {
	web     *webauthn.WebAuthn
	waiting pending.Store
}

// New returns a RelyingParty.
func New(c Config) (*RelyingParty, error) {
	if c.Host == "" || c.Waiting == nil {
		return nil, errors.New("passkeys need the host name that they belong to, and a store for what waits")
	}
	c = c.withDefaults()
	web, err := webauthn.New(&webauthn.Config{
		RPID:                  c.Host,
		RPDisplayName:         c.Title,
		RPOrigins:             c.Origins,
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey:      protocol.ResidentKeyRequirementPreferred,
			UserVerification: protocol.VerificationRequired,
		},
		Timeouts: webauthn.TimeoutsConfig{
			Login:        webauthn.TimeoutConfig{Timeout: ceremonyTime, TimeoutUVD: ceremonyTime},
			Registration: webauthn.TimeoutConfig{Timeout: ceremonyTime, TimeoutUVD: ceremonyTime},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("passkeys for %s: %w", c.Host, err)
	}
	return &RelyingParty{web: web, waiting: c.Waiting}, nil
}

// account gives a User the methods that the library wants.
type account struct {
	User
	credentials webauthn.Credentials
}

func (a *account) WebAuthnID() []byte                         { return a.Handle }
func (a *account) WebAuthnName() string                       { return a.Name }
func (a *account) WebAuthnDisplayName() string                { return a.Name }
func (a *account) WebAuthnCredentials() []webauthn.Credential { return a.credentials }

func (u User) account() (*account, error) {
	if len(u.Handle) != handleSize {
		return nil, fmt.Errorf("the passkey handle of %s has %d bytes, not %d", u.Name, len(u.Handle), handleSize)
	}
	if len(u.Credentials) > maxCredentials {
		return nil, fmt.Errorf("%s has %d passkeys, more than %d", u.Name, len(u.Credentials), maxCredentials)
	}
	a := &account{User: u}
	for i, c := range u.Credentials {
		var w webauthn.Credential
		if err := json.Unmarshal(c.Record, &w); err != nil {
			return nil, fmt.Errorf("passkey %d of %s: %w", i+1, u.Name, err)
		}
		if !slices.Equal(w.ID, c.ID) {
			return nil, fmt.Errorf("passkey %d of %s is stored under another one's id", i+1, u.Name)
		}
		a.credentials = append(a.credentials, w)
	}
	return a, nil
}

// credential is the other way round.
func credential(w *webauthn.Credential) (Credential, error) {
	record, err := json.Marshal(w)
	if err != nil {
		return Credential{}, fmt.Errorf("write a passkey: %w", err)
	}
	return Credential{ID: w.ID, Record: record}, nil
}

// wait keeps a ceremony's state until the browser is back.
func (rp *RelyingParty) wait(ctx context.Context, kind string, session *webauthn.SessionData, options any) (Ask, error) {
	state, err := json.Marshal(session)
	if err != nil {
		return Ask{}, err
	}
	shown, err := json.Marshal(options)
	if err != nil {
		return Ask{}, err
	}
	id := rand.Text()
	if err := rp.waiting.Put(ctx, kind+id, state, ceremonyTime); err != nil {
		return Ask{}, fmt.Errorf("keep a passkey ceremony: %w", err)
	}
	return Ask{ID: id, Options: shown}, nil
}

// resume takes the state back, once.
func (rp *RelyingParty) resume(ctx context.Context, kind, id string) (webauthn.SessionData, error) {
	var session webauthn.SessionData
	state, err := rp.waiting.Take(ctx, kind+id)
	if errors.Is(err, pending.ErrUnknown) {
		return session, refuse("no such ceremony waits: it has expired, or its response came twice")
	}
	if err != nil {
		return session, fmt.Errorf("find a passkey ceremony: %w", err)
	}
	if err := json.Unmarshal(state, &session); err != nil {
		return session, fmt.Errorf("read a passkey ceremony: %w", err)
	}
	return session, nil
}
