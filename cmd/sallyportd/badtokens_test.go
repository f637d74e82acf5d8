package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	oidcprovider "sallyport/tests/oidc-provider"
)

// A forger is an identity provider whose tokens a test makes.
type forger struct {
	*httptest.Server
	key ed25519.PrivateKey

	mu    sync.Mutex
	token string // the next
}

func newForger(t *testing.T) *forger {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &forger{key: key}
	mux := http.NewServeMux()
	answer := func(path string, v func() any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(v())
		})
	}
	answer("/.well-known/openid-configuration", func() any {
		return map[string]any{"issuer": f.URL, "authorization_endpoint": f.URL + "/auth", "token_endpoint": f.URL + "/token", "jwks_uri": f.URL + "/jwks"}
	})
	answer("/jwks", func() any {
		return map[string]any{"keys": []any{map[string]any{"kty": "OKP", "crv": "Ed25519", "kid": "one", "use": "sig", "x": base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))}}}
	})
	answer("/token", func() any {
		f.mu.Lock()
		defer f.mu.Unlock()
		return map[string]any{"access_token": "of no use", "token_type": "Bearer", "id_token": f.token}
	})
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

// sign makes a token of any header and claims.
func (f *forger) sign(header, claims any) string {
	part := func(v any) string {
		text, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := part(header) + "." + part(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(f.key, []byte(signed)))
}

// TestBadTokens: whatever is wrong with a provider's token, the browser is told one sentence, and the daemon's log has one
// line with the reason, to the letter.
func TestBadTokens(t *testing.T) {
	f := newForger(t)
	e := entranceAt(t, func(string) string { return f.URL })
	type object = map[string]any
	header := object{"alg": "EdDSA", "kid": "one"}
	claim := func(name string, value any) func(object) string {
		return func(c object) string {
			c[name] = value
			maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
			return f.sign(header, c)
		}
	}
	headed := func(h object) func(object) string { return func(c object) string { return f.sign(h, c) } }
	for what, c := range map[string]struct {
		token func(object) string
		why   string
	}{
		"another audience":      {claim("aud", "other"), `aud is "other", not "sallyport" alone`},
		"one more audience":     {claim("aud", []string{"sallyport", "other"}), `aud is ["sallyport","other"], not "sallyport" alone`},
		"another issuer":        {claim("iss", "https://evil.example"), fmt.Sprintf("iss is %q, not %q", "https://evil.example", f.URL)},
		"another party":         {claim("azp", "other"), `azp is "other", not "sallyport"`},
		"another nonce":         {claim("nonce", "x"), `nonce is not the one of this sign-in`},
		"no expiry":             {claim("exp", nil), `exp is absent, not a time`},
		"an expiry of text":     {claim("exp", "1\n2"), `exp is "1\n2", not a time`},
		"nobody":                {claim("sub", nil), `sub is absent, not 1 to 255 characters of ASCII`},
		"no signature":          {headed(object{"alg": "none"}), `the id token is signed with "none", allowed are [RS256 PS256 ES256 EdDSA]`},
		"another way to sign":   {headed(object{"alg": "HS256", "kid": "one"}), `the id token is signed with "HS256", allowed are [RS256 PS256 ES256 EdDSA]`},
		"an unknown key":        {headed(object{"alg": "EdDSA", "kid": "two"}), `the provider has no key with the id "two"`},
		"another kind of token": {headed(object{"alg": "EdDSA", "kid": "one", "typ": "at+jwt"}), `the token is of type "at+jwt", not an id token`},
		"a changed signature": {func(c object) string {
			good := f.sign(header, c)
			return good[:len(good)-20] + strings.Repeat("A", 20)
		}, `the signature of the id token does not verify with the provider's key "one"`},
		"another's user name": {claim("preferred_username", "Ann Example"), `preferred_username is "ann example", which is no user name here: 1 to 64 of a-z, 0-9, dot, dash, _ and @`},
		"no token":            {func(object) string { return "" }, `the id token is not three parts with dots between, it has 1`},
	} {
		b := e.browser()
		to, err := url.Parse(html.UnescapeString(onward.FindStringSubmatch(b.form("/login/at/corp", nil, "0;url="))[1]))
		if err != nil {
			t.Fatal(err)
		}
		asked, now := to.Query(), time.Now().Unix()
		f.mu.Lock()
		f.token = c.token(object{"iss": f.URL, "aud": oidcprovider.ClientID, "sub": "0001", "exp": now + 300, "iat": now, "nonce": asked.Get("nonce"), "preferred_username": "ann"})
		f.mu.Unlock()
		before := len(e.log.String())
		page := b.page(b.Get(e.url + "/login/corp?" + url.Values{"state": {asked.Get("state")}, "code": {"a code"}}.Encode()))
		if !strings.Contains(page, "signing in did not work") || strings.Contains(page, "id token") {
			t.Errorf("%s: the browser is told %s", what, page)
		}
		said := e.log.String()[before:]
		want := fmt.Sprintf("level=INFO msg=\"sign-in refused\" source=127.0.0.1 user=\"\" cause=E_LOGIN why=%q\n", "corp: "+c.why)
		if strings.Count(said, `msg="sign-in refused"`) != 1 || !strings.Contains(said, want) {
			t.Errorf("%s: the log says\n%s, not\n%s", what, said, want)
		}
	}
}
