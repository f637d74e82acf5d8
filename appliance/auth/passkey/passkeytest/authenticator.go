// Package passkeytest is a passkey in software, with as much of a browser around it as a ceremony needs.
//
//	a := passkeytest.New(t, "bastion.example")
//	response := a.Create(ask.Options) // navigator.credentials.create
//	response := a.Get(ask.Options)    // navigator.credentials.get
//
// It speaks ES256 without attestation. Its fields may be changed to make it lie.
package passkeytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// The flags of an authenticator's data.
const (
	UserPresent  = 0x01
	UserVerified = 0x04
	attested     = 0x40
)

// An Authenticator holds one passkey, the latest that it has made.
type Authenticator struct {
	Origin string
	Host   string
	Flags  byte   // of every response
	Count  uint32 // goes up with every response
	Synced bool   // then it does not

	ID     []byte
	Handle []byte
	Key    *ecdsa.PrivateKey

	t testing.TB
}

// New returns an authenticator in a browser that shows a page of host.
func New(t testing.TB, host string) *Authenticator {
	return &Authenticator{Origin: "https://" + host, Host: host, Flags: UserPresent | UserVerified, t: t}
}

// B64 is how WebAuthn writes bytes in JSON.
func B64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Options are what goes to the browser, as far as anybody looks at them.
type Options struct {
	PublicKey struct {
		Challenge string `json:"challenge"`
		RP        struct {
			ID string `json:"id"`
		} `json:"rp"`
		User struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"user"`
		AuthenticatorSelection struct {
			UserVerification string `json:"userVerification"`
		} `json:"authenticatorSelection"`
		UserVerification   string       `json:"userVerification"`
		Attestation        string       `json:"attestation"`
		RPID               string       `json:"rpId"`
		AllowCredentials   []Descriptor `json:"allowCredentials"`
		ExcludeCredentials []Descriptor `json:"excludeCredentials"`
	} `json:"publicKey"`
}

// A Descriptor names a passkey.
type Descriptor struct {
	ID string `json:"id"`
}

// Read returns the options of a ceremony.
func (a *Authenticator) Read(options []byte) Options {
	a.t.Helper()
	var o Options
	if err := json.Unmarshal(options, &o); err != nil {
		a.t.Fatal(err)
	}
	return o
}

// Create answers navigator.credentials.create with a new passkey.
func (a *Authenticator) Create(options []byte) []byte {
	a.t.Helper()
	o := a.Read(options)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.Key, a.ID = key, make([]byte, 32)
	rand.Read(a.ID)
	if a.Handle, err = base64.RawURLEncoding.DecodeString(o.PublicKey.User.ID); err != nil {
		a.t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		a.t.Fatal(err)
	}
	cose := a.encode(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	data := a.data(a.Flags | attested)
	data = append(data, make([]byte, 16)...) // of no particular make
	data = binary.BigEndian.AppendUint16(data, uint16(len(a.ID)))
	data = append(append(data, a.ID...), cose...)
	object := a.encode(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": data})
	return a.respond(map[string]any{
		"clientDataJSON":    B64(a.clientData("webauthn.create", o.PublicKey.Challenge)),
		"attestationObject": B64(object),
		"transports":        []string{"internal"},
	})
}

// Get answers navigator.credentials.get with the passkey, whatever is allowed.
func (a *Authenticator) Get(options []byte) []byte {
	a.t.Helper()
	client := a.clientData("webauthn.get", a.Read(options).PublicKey.Challenge)
	data := a.data(a.Flags)
	sum := sha256.Sum256(client)
	digest := sha256.Sum256(append(data[:len(data):len(data)], sum[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.Key, digest[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return a.respond(map[string]any{
		"clientDataJSON":    B64(client),
		"authenticatorData": B64(data),
		"signature":         B64(signature),
		"userHandle":        B64(a.Handle),
	})
}

func (a *Authenticator) clientData(kind, challenge string) []byte {
	return a.json(map[string]any{"type": kind, "challenge": challenge, "origin": a.Origin, "crossOrigin": false})
}

func (a *Authenticator) data(flags byte) []byte {
	sum := sha256.Sum256([]byte(a.Host))
	out := append(sum[:], flags)
	if !a.Synced {
		a.Count++
	}
	return binary.BigEndian.AppendUint32(out, a.Count)
}

func (a *Authenticator) respond(response map[string]any) []byte {
	return a.json(map[string]any{
		"id": B64(a.ID), "rawId": B64(a.ID), "type": "public-key", "response": response,
		"clientExtensionResults": map[string]any{}, "authenticatorAttachment": "platform",
	})
}

func (a *Authenticator) json(v any) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}

func (a *Authenticator) encode(v any) []byte {
	mode, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		a.t.Fatal(err)
	}
	out, err := mode.Marshal(v)
	if err != nil {
		a.t.Fatal(err)
	}
	return out
}
