package signin

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"sallyport/appliance/auth/lockout"
	"sallyport/appliance/auth/oidc"
	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/auth/passkey/passkeytest"
	"sallyport/appliance/auth/password"
	"sallyport/appliance/auth/pending"
	"sallyport/appliance/auth/totp"
)

const secretSentence = "a sentence that only ann knows"

var (
	desk   = netip.MustParseAddr("192.0.2.10")
	cafe   = netip.MustParseAddr("198.51.100.20")
	device = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	thief  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, ed25519.SeedSize))
)

// accounts is a store in memory.
type accounts struct {
	mu       sync.Mutex
	byUser   map[string]*Account
	counters map[string]uint64
	bound    map[string]string // user to issuer and subject
	broken   error
}

func (a *accounts) Account(_ context.Context, user string) (Account, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := a.byUser[user]
	if found == nil || a.broken != nil {
		return Account{}, false, a.broken
	}
	return *found, true, nil
}

func (a *accounts) AccountByHandle(_ context.Context, handle []byte) (Account, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, found := range a.byUser {
		if bytes.Equal(found.Handle, handle) {
			return *found, true, nil
		}
	}
	return Account{}, false, a.broken
}

func (a *accounts) UseTOTP(_ context.Context, user string, counter uint64) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if counter <= a.counters[user] {
		return false, nil
	}
	a.counters[user] = counter
	return true, nil
}

func (a *accounts) UseRecovery(_ context.Context, user string, code [32]byte) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	found := a.byUser[user]
	i := slices.Index(found.Recovery, code)
	if i < 0 {
		return false, nil
	}
	found.Recovery = slices.Delete(slices.Clone(found.Recovery), i, i+1)
	return true, nil
}

func (a *accounts) SetPassword(_ context.Context, user, was, is string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byUser[user].Password == was {
		a.byUser[user].Password = is
	}
	return nil
}

func (a *accounts) SetPasskey(_ context.Context, user string, c passkey.Credential) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, old := range a.byUser[user].Passkeys {
		if bytes.Equal(old.ID, c.ID) {
			a.byUser[user].Passkeys[i] = c
			return nil
		}
	}
	return errors.New("no such passkey")
}

func (a *accounts) Bind(_ context.Context, who oidc.Identity) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	person := who.Issuer + " " + who.Subject
	if was, known := a.bound[who.User]; a.byUser[who.User] != nil || known && was != person {
		return ErrNameTaken
	}
	a.bound[who.User] = person
	return nil
}

// provider vouches for whoever the answer names.
type provider struct{}

func (provider) Begin(_ context.Context, name, _ string, _ bool) (string, error) {
	return "https://id.example/auth?to=" + name, nil
}

func (provider) Finish(_ context.Context, name, browser string, answer url.Values) (oidc.Identity, error) {
	if answer.Get("browser") != browser {
		return oidc.Identity{}, oidc.ErrRefused
	}
	now := time.Now().Add(-time.Minute)
	return oidc.Identity{
		Issuer: "https://id.example", Subject: answer.Get("sub"), User: answer.Get("user"), Groups: []string{"ops"},
		AuthTime: now, MFA: now, Session: oidc.Session{Provider: name, Refresh: "refresh canary"},
	}, nil
}

// A house is a Service with ann in it, who has everything.
type house struct {
	*Service
	t        *testing.T
	accounts *accounts
	secret   totp.Secret
	recovery []string
	key      *passkeytest.Authenticator
	counter  uint64 // of polls
}

func newHouse(t *testing.T, change ...func(*Config)) *house {
	t.Helper()
	hasher := password.New(password.Config{Memory: 64, Passes: 1})
	stored, err := hasher.Hash(t.Context(), secretSentence)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := totp.New("Sallyport", "ann")
	if err != nil {
		t.Fatal(err)
	}
	shown, kept := totp.NewRecoveryCodes()
	waiting := pending.NewMemory(pending.Config{})
	party, err := passkey.New(passkey.Config{Host: "bastion.example", Waiting: waiting})
	if err != nil {
		t.Fatal(err)
	}
	ann := &Account{User: "ann", Groups: []string{"ops"}, Password: stored, TOTP: secret.Text, Recovery: kept, Handle: passkey.NewHandle()}
	key := passkeytest.New(t, "bastion.example")
	ask, err := party.BeginRegistration(t.Context(), ann.PasskeyUser())
	if err != nil {
		t.Fatal(err)
	}
	cred, err := party.FinishRegistration(t.Context(), ann.PasskeyUser(), ask.ID, key.Create(ask.Options))
	if err != nil {
		t.Fatal(err)
	}
	ann.Passkeys = []passkey.Credential{cred}
	store := &accounts{byUser: map[string]*Account{"ann": ann}, counters: make(map[string]uint64), bound: make(map[string]string)}
	c := Config{
		Accounts: store, Providers: provider{}, Passkeys: party, Passwords: hasher, Visits: waiting,
		Cookies: lockout.NewCookies([32]byte{1}, time.Now),
	}
	for _, f := range change {
		f(&c)
	}
	return &house{Service: New(c), t: t, accounts: store, secret: secret, recovery: shown, key: key}
}

// code returns the one-time code of a moment.
func (h *house) code(at time.Time) string {
	h.t.Helper()
	code, err := hotp.GenerateCodeCustom(h.secret.Text, uint64(at.Unix()/30), hotp.ValidateOpts{Digits: otp.DigitsSix})
	if err != nil {
		h.t.Fatal(err)
	}
	return code
}

func (h *house) start() Started {
	h.t.Helper()
	started, err := h.Start(h.t.Context(), Start{Key: device.Public().(ed25519.PublicKey), Name: "ann's laptop", Platform: "linux/amd64", Source: cafe})
	if err != nil {
		h.t.Fatal(err)
	}
	return started
}

// poll asks as the device does.
func (h *house) poll(id string) (*Enrolment, error) {
	h.counter++
	return h.Poll(h.t.Context(), signed(device, id, h.counter))
}

func signed(key ed25519.PrivateKey, id string, counter uint64) Poll {
	return Poll{ID: id, Counter: counter, Signature: ed25519.Sign(key, PollMessage(id, counter))}
}

// signIn signs ann in with her password and a one-time code.
func (h *house) signIn() Visit {
	h.t.Helper()
	visit, err := h.Password(h.t.Context(), "ann", secretSentence, From{Source: desk})
	if err != nil {
		h.t.Fatal(err)
	}
	if visit, err = h.TOTP(h.t.Context(), visit.Secret, h.code(time.Now()), From{Source: desk}); err != nil {
		h.t.Fatal(err)
	}
	return visit
}
