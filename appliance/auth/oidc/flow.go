package oidc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"sallyport/appliance/auth/pending"
)

const (
	signInTime = 10 * time.Minute // from the way to the provider to the way back
	maxField   = 8 << 10          // of what comes back
	maxRefresh = 16 << 10         // of a refresh token
)

// An Identity is a person as a provider has just vouched for them.
type Identity struct {
	Issuer, Subject string // these two are the person
	User            string // the name here
	Groups          []string
	AuthTime        time.Time // when they signed in at the provider
	MFA             time.Time // when they showed a second factor; zero if the provider does not say so
	Session         Session
}

// A Session is what a later Refresh needs. It is secret: whoever has it is the person, as far as the provider knows.
type Session struct {
	Provider string
	Subject  string
	Refresh  string // empty if the provider gave none; then there is nothing to refresh
	Nonce    string
	AuthTime time.Time
}

// String says whose it is, without what is secret, so that no print and no log has that by accident.
func (s Session) String() string { return fmt.Sprintf("session of %s at %s", s.Subject, s.Provider) }

// LogValue is for log/slog.
func (s Session) LogValue() slog.Value { return slog.StringValue(s.String()) }

// flow is what waits while the browser is at the provider.
type flow struct {
	Provider string `json:"provider"`
	Browser  []byte `json:"browser"` // a hash
	Verifier string `json:"verifier"`
	Nonce    string `json:"nonce"`
	Fresh    int64  `json:"fresh,omitempty"` // the person has to sign in again after this; 0 if any sign-in will do
}

// Begin returns where to send a browser. The browser is named by a secret that it shows again at the end, such as that
// of its cookie: nobody can finish a sign-in in somebody else's browser.
//
// Fresh makes the provider ask the person again, even if they are signed in there; it is for rules about how long ago
// somebody has shown their second factor.
func (p *Provider) Begin(ctx context.Context, browser string, fresh bool) (string, error) {
	if browser == "" {
		return "", errors.New("a sign-in needs a browser that it belongs to")
	}
	m, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	f := flow{Provider: p.config.Name, Browser: hash(browser), Verifier: oauth2.GenerateVerifier(), Nonce: rand.Text()}
	options := []oauth2.AuthCodeOption{oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)}
	if fresh {
		f.Fresh = p.config.Clock().Unix()
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	}
	value, err := json.Marshal(f)
	if err != nil {
		return "", err
	}
	state := rand.Text()
	if err := p.waiting.Put(ctx, "oidc "+state, value, signInTime); err != nil {
		return "", fmt.Errorf("keep a sign-in: %w", err)
	}
	return p.oauth(m).AuthCodeURL(state, options...), nil
}

// Finish takes what the browser came back with.
func (p *Provider) Finish(ctx context.Context, browser string, answer url.Values) (Identity, error) {
	f, err := p.resume(ctx, browser, answer)
	if err != nil {
		return Identity{}, err
	}
	m, err := p.discover(ctx)
	if err != nil {
		return Identity{}, err
	}
	if err := p.checkAnswer(m, answer); err != nil {
		return Identity{}, err
	}
	ctx = oidc.ClientContext(ctx, p.http)
	told, err := p.oauth(m).Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return Identity{}, p.exchangeError("exchange the code", ErrRefused, err)
	}
	raw, ok := told.Extra("id_token").(string)
	if !ok {
		return Identity{}, p.refuse("the provider gave no id token for the code")
	}
	c, err := p.verify(ctx, m, raw, expected{nonce: f.Nonce, fresh: f.Fresh})
	if err != nil {
		return Identity{}, err
	}
	if err := p.complete(ctx, m, told.AccessToken, c); err != nil {
		return Identity{}, err
	}
	return p.identity(c, told.RefreshToken, Session{Nonce: f.Nonce})
}

// resume takes back what waited, which must be of this provider and this browser.
func (p *Provider) resume(ctx context.Context, browser string, answer url.Values) (flow, error) {
	var f flow
	for _, name := range []string{"state", "code", "iss", "error", "error_description"} {
		if values := answer[name]; len(values) > 1 || len(values) == 1 && len(values[0]) > maxField {
			return f, p.refuse("the answer has %s more than once, or over %d bytes of it", name, maxField)
		}
	}
	value, err := p.waiting.Take(ctx, "oidc "+answer.Get("state"))
	if errors.Is(err, pending.ErrUnknown) {
		return f, p.refuse("the state of the answer is none that waits: it has expired, was used, or is not from here")
	}
	if err != nil {
		return f, fmt.Errorf("find a sign-in: %w", err)
	}
	if err := json.Unmarshal(value, &f); err != nil {
		return f, fmt.Errorf("read a sign-in: %w", err)
	}
	if f.Provider != p.config.Name {
		return f, p.refuse("the answer belongs to a sign-in at %q", f.Provider)
	}
	if subtle.ConstantTimeCompare(f.Browser, hash(browser)) != 1 {
		return f, p.refuse("the answer came in another browser than the one that began")
	}
	return f, nil
}

// checkAnswer looks at the rest of what the browser brought.
func (p *Provider) checkAnswer(m *metadata, answer url.Values) error {
	// RFC 9207: an answer that some other provider gave is not worth the code that is in it.
	if iss := answer.Get("iss"); (m.SendsIssuer || answer.Has("iss")) && iss != p.config.Issuer {
		return p.refuse("the answer's iss is %.200q, not %q", iss, p.config.Issuer)
	}
	if answer.Has("error") {
		return p.refuse("the provider answered %.80q, %.200q", answer.Get("error"), answer.Get("error_description"))
	}
	if answer.Get("code") == "" {
		return p.refuse("the answer has neither a code nor an error")
	}
	return nil
}

// exchangeError tells a no of the token endpoint from no answer. The answer itself may hold secrets; of a no there is
// the code, which is one of a few words.
func (p *Provider) exchangeError(doing string, told error, err error) error {
	no, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok || no.Response.StatusCode >= 500 || no.Response.StatusCode == 429 {
		if ok {
			err = fmt.Errorf("it answers %s", no.Response.Status)
		}
		return p.down(doing, err)
	}
	reason := fmt.Sprintf("%s: the provider answered %s, %.80q, %.200q", doing, no.Response.Status, no.ErrorCode, no.ErrorDescription)
	if told == ErrEnded && no.ErrorCode == "invalid_grant" {
		return &outcome{ErrEnded, &Detail{Provider: p.config.Name, Reason: reason}}
	}
	return p.refuse("%s", reason)
}

// identity makes a person of verified claims.
func (p *Provider) identity(c claims, refresh string, s Session) (Identity, error) {
	subject, err := c.text("sub")
	if err != nil {
		return Identity{}, p.refuse("sub is %s", c.show("sub"))
	}
	if s.Provider = p.config.Name; len(refresh) > maxRefresh {
		return Identity{}, p.refuse("the refresh token has %d bytes, more than %d", len(refresh), maxRefresh)
	}
	s.Subject, s.Refresh = subject, refresh
	user, err := p.user(c)
	if err != nil {
		return Identity{}, err
	}
	groups, err := p.groups(c)
	if err != nil {
		return Identity{}, err
	}
	who := Identity{Issuer: p.config.Issuer, Subject: subject, User: user, Groups: groups}
	if at, err := c.time("auth_time"); err == nil {
		s.AuthTime = at
	}
	if who.AuthTime = s.AuthTime; who.AuthTime.IsZero() {
		if who.AuthTime, err = c.time("iat"); err != nil {
			return Identity{}, p.refuse("iat is %s, not a time", c.show("iat"))
		}
	}
	if p.mfa(c) {
		who.MFA = who.AuthTime
	}
	who.Session = s
	return who, nil
}

func hash(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}
