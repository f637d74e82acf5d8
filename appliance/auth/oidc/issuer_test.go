package oidc

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"sallyport/appliance/auth/pending"
)

const (
	issuerURL = "https://id.example"
	clientID  = "sallyport"
	secret    = "client secret canary"
	browser   = "browser-1"
)

// The keys of the tests. RSA keys take long to make.
var (
	rsaKey, rsaSmall = newRSA(2048), newRSA(1024)
	ecKey            = newEC(elliptic.P256())
	ec384            = newEC(elliptic.P384())
	_, edKey, _      = ed25519.GenerateKey(nil)
	_, edOther, _    = ed25519.GenerateKey(nil)
	_, edStranger, _ = ed25519.GenerateKey(nil)
	edStrangerPub    = edStranger.Public().(ed25519.PublicKey)
	publishedKeys    = []jose.JSONWebKey{
		public("rsa-1", rsaKey.Public()), public("rsa-small", rsaSmall.Public()), public("ec-1", ecKey.Public()), public("ec-384", ec384.Public()),
		public("ed-1", edKey.Public()), public("ed-2", edOther.Public()),
		{Key: edOther.Public(), KeyID: "ed-enc", Use: "enc"},
	}
)

func newRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

func newEC(c elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func public(id string, key any) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: id, Use: "sig"}
}

// An issuer is an identity provider in memory: requests reach its handler without a network, so its time is that of
// the test.
type issuer struct {
	t testing.TB

	mu        sync.Mutex
	metadata  map[string]any
	keys      []jose.JSONWebKey
	idToken   string                                        // the next one
	answer    func(url.Values) (int, any)                   // of the token endpoint, in place of the usual one
	broken    func(r *http.Request) (*http.Response, error) // in place of everything
	requests  map[string]int                                // by path
	challenge string                                        // of the authorization request
	refresh   string                                        // the refresh token that is good now
	me        any                                           // the userinfo
	meStatus  int
}

func newIssuer(t testing.TB) *issuer {
	return &issuer{
		t:        t,
		keys:     publishedKeys,
		requests: make(map[string]int),
		metadata: map[string]any{
			"issuer": issuerURL, "authorization_endpoint": issuerURL + "/auth", "token_endpoint": issuerURL + "/token",
			"jwks_uri": issuerURL + "/jwks", "end_session_endpoint": issuerURL + "/end?x=1",
			"authorization_response_iss_parameter_supported": true,
			"code_challenge_methods_supported":               []string{"S256"},
		},
	}
}

// RoundTrip answers as the provider.
func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	i.requests[r.URL.Path]++
	broken := i.broken
	i.mu.Unlock()
	if broken != nil {
		return broken(r)
	}
	w := httptest.NewRecorder()
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		i.write(w, 200, i.metadata)
	case "/jwks":
		i.write(w, 200, jose.JSONWebKeySet{Keys: i.keys})
	case "/me":
		if r.Header.Get("Authorization") != "Bearer the access token" {
			w.WriteHeader(401)
			break
		}
		i.write(w, i.meStatus, i.me)
	case "/token":
		i.token(w, r)
	default:
		w.WriteHeader(404)
	}
	return w.Result(), nil
}

func (i *issuer) write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		i.t.Error(err)
	}
}

func (i *issuer) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		i.t.Error(err)
	}
	if i.answer != nil {
		status, v := i.answer(r.PostForm)
		i.write(w, status, v)
		return
	}
	user, pass, ok := r.BasicAuth()
	if !ok || user != clientID || pass != url.QueryEscape(secret) {
		i.write(w, 401, map[string]any{"error": "invalid_client"})
		return
	}
	good := r.PostForm.Get("code") == "the code" && oauth2.S256ChallengeFromVerifier(r.PostForm.Get("code_verifier")) == i.challenge &&
		r.PostForm.Get("redirect_uri") == "https://bastion.example/login/corp"
	if r.PostForm.Get("grant_type") == "refresh_token" {
		good = i.refresh != "" && r.PostForm.Get("refresh_token") == i.refresh
	}
	if !good {
		i.write(w, 400, map[string]any{"error": "invalid_grant", "error_description": "no"})
		return
	}
	i.refresh = "refresh " + rand.Text()
	i.write(w, 200, map[string]any{"access_token": "the access token", "token_type": "Bearer", "id_token": i.idToken, "refresh_token": i.refresh})
}

func (i *issuer) count(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.requests[path]
}

// breakWith has all requests answered by f until it is called with nil.
func (i *issuer) breakWith(f func(*http.Request) (*http.Response, error)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.broken = f
}

var errUnplugged = errors.New("connection refused")

func unplugged(*http.Request) (*http.Response, error) { return nil, errUnplugged }

// claims returns good ones.
func (i *issuer) claims(nonce string) map[string]any {
	now := time.Now().Unix()
	return map[string]any{
		"iss": issuerURL, "aud": clientID, "sub": "0001", "exp": now + 300, "iat": now, "auth_time": now, "nonce": nonce,
		"preferred_username": "Ann", "groups": []string{"ops", "dev", "ops"},
	}
}

// sign makes a token as a provider does.
func sign(t *testing.T, alg jose.SignatureAlgorithm, id string, key any, headers map[string]any, payload []byte) string {
	t.Helper()
	options := &jose.SignerOptions{}
	for name, value := range headers {
		options.WithHeader(jose.HeaderKey(name), value)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: id}}, options)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// byHand signs any header and payload with ed-1.
func byHand(header, payload string) string {
	signed := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	return signed + "." + b64.EncodeToString(ed25519.Sign(edKey, []byte(signed)))
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// newCorp returns a provider that talks to an issuer.
func newCorp(t testing.TB, i *issuer, change ...func(*Config)) *Provider {
	t.Helper()
	c := Config{
		Name: "corp", Issuer: issuerURL, ClientID: clientID, ClientSecret: secret,
		RedirectURL: "https://bastion.example/login/corp", HTTP: &http.Client{Transport: i},
	}
	for _, f := range change {
		f(&c)
	}
	s, err := NewSet(pending.NewMemory(pending.Config{}), c)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Provider("corp")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// begin sends a browser to the issuer and returns what is in the URL.
func begin(t *testing.T, p *Provider, i *issuer) url.Values {
	t.Helper()
	address, err := p.Begin(t.Context(), browser, false)
	if err != nil {
		t.Fatal(err, reason(err))
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	i.challenge = u.Query().Get("code_challenge")
	return u.Query()
}

// answerOf is what the browser comes back with.
func answerOf(asked url.Values) url.Values {
	return url.Values{"state": {asked.Get("state")}, "code": {"the code"}, "iss": {issuerURL}}
}

// signIn goes all the way with good claims that change has its hands on.
func signIn(t *testing.T, p *Provider, i *issuer, change func(c map[string]any)) (Identity, error) {
	t.Helper()
	asked := begin(t, p, i)
	c := i.claims(asked.Get("nonce"))
	if change != nil {
		change(c)
	}
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	i.idToken = sign(t, jose.RS256, "rsa-1", rsaKey, nil, encode(t, c))
	return p.Finish(t.Context(), browser, answerOf(asked))
}

func reason(err error) string {
	if d, ok := errors.AsType[*Detail](err); ok {
		return d.Error()
	}
	return ""
}

// refused wants the generic answer and exactly this line for the log.
func refused(t *testing.T, err error, line string) {
	t.Helper()
	told(t, err, ErrRefused, line)
}

func told(t *testing.T, err, want error, line string) {
	t.Helper()
	if !errors.Is(err, want) || err.Error() != want.Error() {
		t.Errorf("the person is told %v, not %v", err, want)
	}
	if got := reason(err); got != line {
		t.Errorf("the log says\n%s, not\n%s", got, line)
	}
	if strings.Contains(reason(err), secret) {
		t.Error("the log has the client's secret")
	}
}

func show(who Identity) string {
	return fmt.Sprintf("%s %s %s %s", who.User, who.Subject, who.Issuer, who.Groups)
}
