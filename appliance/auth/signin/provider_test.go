package signin

import (
	"crypto/ed25519"
	"errors"
	"slices"
	"testing"

	"sallyport/appliance/auth/oidc"
	"sallyport/appliance/auth/pending"
	"sallyport/appliance/auth/token"
	oidcprovider "sallyport/tests/oidc-provider"
)

// identityKey signs access tokens.
type identityKey struct{ ed25519.PrivateKey }

func (k identityKey) Sign(message []byte) []byte { return ed25519.Sign(k.PrivateKey, message) }
func (k identityKey) Public() ed25519.PublicKey  { return k.PrivateKey.Public().(ed25519.PublicKey) }

// TestHeadless enrols a device that has no browser, for a person who signs in at a real provider on another machine:
// from the code on the device's screen to an access token that is good on it and nowhere else.
func TestHeadless(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a Node process")
	}
	const redirect = "http://127.0.0.1:1/login/corp"
	idp := oidcprovider.Start(t, redirect)
	providers, err := oidc.NewSet(pending.NewMemory(pending.Config{}), oidc.Config{
		Name: "corp", Issuer: idp.Issuer, ClientID: oidcprovider.ClientID, ClientSecret: oidcprovider.ClientSecret, RedirectURL: redirect,
	})
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, func(c *Config) { c.Providers = providers })
	delete(h.accounts.byUser, "ann") // the local account, whose name the provider's ann has
	started := h.start()

	browser := NewBrowser()
	if _, err := h.Open(t.Context(), started.Code, desk); err != nil {
		t.Fatal(err)
	}
	to, err := h.BeginProvider(t.Context(), "corp", browser, false)
	if err != nil {
		t.Fatal(err)
	}
	visit, err := h.FinishProvider(t.Context(), "corp", browser, idp.Login(t, to, "ann"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Confirm(t.Context(), visit.Secret, started.Code, desk); err != nil {
		t.Fatal(err)
	}

	e, err := h.poll(started.ID)
	if err != nil || e == nil {
		t.Fatal(e, err)
	}
	if e.Person.User != "ann" || e.Person.Issuer != idp.Issuer || !slices.Equal(e.Person.Groups, []string{"dev", "ops"}) || !e.Key.Equal(device.Public()) {
		t.Errorf("%+v", e)
	}
	signer, err := token.New(token.Config{Fleet: "bastion.example"}, identityKey{ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))})
	if err != nil {
		t.Fatal(err)
	}
	text, err := signer.Sign(token.Claims{User: e.Person.User, SignIn: e.SignIn, Groups: e.Person.Groups, MFA: e.Person.MFA}, e.Key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := signer.Verify(text, e.Key); err != nil || c.User != "ann" {
		t.Error(c, err)
	}
	if _, err := signer.Verify(text, thief.Public().(ed25519.PublicKey)); !errors.Is(err, token.ErrRefused) {
		t.Error(err)
	}
	if again, err := providers.Refresh(t.Context(), e.Person.Session); err != nil || again.User != "ann" {
		t.Error(again, err)
	}
}
