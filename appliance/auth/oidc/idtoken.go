package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
)

const (
	maxToken = 64 << 10 // bytes of an ID token; two hundred groups with long names are 40 KiB
	skew     = time.Minute
)

// expected is what an ID token has to match beside the configuration.
type expected struct {
	nonce    string
	subject  string    // of a refresh; empty at a sign-in
	authTime time.Time // of a refresh, if the sign-in had one
	refresh  bool      // then the token may be without a nonce
	fresh    int64     // auth_time may not be before it, and has to be there; 0 for any
}

// verify returns the claims of a good ID token.
func (p *Provider) verify(ctx context.Context, m *metadata, raw string, want expected) (claims, error) {
	if len(raw) > maxToken {
		return nil, p.refuse("the id token has %d bytes, more than %d", len(raw), maxToken)
	}
	// Decoders of base64 skip line breaks, so a token with some would be a second spelling of one without.
	if strings.ContainsAny(raw, "\r\n") {
		return nil, p.refuse("the id token has line breaks in it")
	}
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return nil, p.refuse("the id token is not three parts with dots between, it has %d", len(parts))
	}
	h, err := p.header(parts[0])
	if err != nil {
		return nil, err
	}
	for i, part := range parts[1:] {
		if _, err := b64.DecodeString(part); err != nil {
			return nil, p.refuse("the %s of the id token is not base64url", []string{"payload", "signature"}[i])
		}
	}
	key, why, err := p.keys.find(ctx, m.JWKS, h.KeyID, jose.SignatureAlgorithm(h.Algorithm))
	if err != nil {
		return nil, p.down("ask for its keys", err)
	}
	if key == nil {
		return nil, p.refuse("%s", why)
	}
	signed, err := jose.ParseSignedCompact(raw, algorithms)
	if err != nil {
		return nil, p.refuse("the id token cannot be read: %.200q", err)
	}
	payload, err := signed.Verify(key)
	if err != nil {
		return nil, p.refuse("the signature of the id token does not verify with the provider's key %.80q", key.KeyID)
	}
	var c claims
	// This decoder tells sub from SUB, and refuses a name that comes twice.
	if err := josejson.Unmarshal(payload, &c); err != nil {
		return nil, p.refuse("the claims of the id token are not a JSON object: %.200q", err)
	}
	if err := p.judge(c, want); err != nil {
		return nil, err
	}
	return c, nil
}

// b64 has one spelling for the same bytes.
var b64 = base64.RawURLEncoding.Strict()

// header is what is read of a JOSE header. A key that comes with the token (jwk, jku, x5c, x5u) is not looked at.
type header struct {
	Algorithm string   `json:"alg"`
	KeyID     string   `json:"kid"`
	Type      string   `json:"typ"`
	Critical  []string `json:"crit"`
}

func (p *Provider) header(part string) (header, error) {
	var h header
	text, err := b64.DecodeString(part)
	if err != nil {
		return h, p.refuse("the header of the id token is not base64url")
	}
	if err := josejson.Unmarshal(text, &h); err != nil {
		return h, p.refuse("the header of the id token cannot be read: %.200q", err)
	}
	switch {
	case !slices.Contains(algorithms, jose.SignatureAlgorithm(h.Algorithm)):
		return h, p.refuse("the id token is signed with %.40q, allowed are %s", h.Algorithm, algorithms)
	case h.Critical != nil:
		return h, p.refuse("the id token has critical headers: %.80q", h.Critical)
	case h.Type != "" && !strings.EqualFold(h.Type, "JWT"):
		return h, p.refuse("the token is of type %.40q, not an id token", h.Type)
	}
	return h, nil
}

// judge compares the claims with what they have to be.
func (p *Provider) judge(c claims, want expected) error {
	now := p.config.Clock()
	if iss, err := c.text("iss"); err != nil || iss != p.config.Issuer {
		return p.refuse("iss is %s, not %q", c.show("iss"), p.config.Issuer)
	}
	if aud, err := c.list("aud"); err != nil || len(aud) != 1 || aud[0] != p.config.ClientID {
		return p.refuse("aud is %s, not %q alone", c.show("aud"), p.config.ClientID)
	}
	if azp, err := c.text("azp"); c.has("azp") && (err != nil || azp != p.config.ClientID) {
		return p.refuse("azp is %s, not %q", c.show("azp"), p.config.ClientID)
	}
	subject, err := c.text("sub")
	if err != nil || !plausibleSubject(subject) {
		return p.refuse("sub is %s, not 1 to 255 characters of ASCII", c.show("sub"))
	}
	if want.subject != "" && subject != want.subject {
		return p.refuse("sub is %s, at the sign-in it was %.80q", c.show("sub"), want.subject)
	}
	if err := p.judgeTimes(c, now); err != nil {
		return err
	}
	if at, err := c.time("auth_time"); want.fresh > 0 && (err != nil || at.Add(skew).Unix() < want.fresh) {
		return p.refuse("auth_time is %s, the person was to sign in again after %d", c.show("auth_time"), want.fresh)
	}
	nonce, err := c.text("nonce")
	if !c.has("nonce") && want.refresh {
		nonce, err = want.nonce, nil
	}
	if err != nil || subtle.ConstantTimeCompare([]byte(nonce), []byte(want.nonce)) != 1 {
		return p.refuse("nonce is not the one of this sign-in")
	}
	if at, err := c.time("auth_time"); want.refresh && c.has("auth_time") && !want.authTime.IsZero() && (err != nil || !at.Equal(want.authTime)) {
		return p.refuse("auth_time is %s, at the sign-in it was %d", c.show("auth_time"), want.authTime.Unix())
	}
	return nil
}

func (p *Provider) judgeTimes(c claims, now time.Time) error {
	exp, err := c.time("exp")
	if err != nil {
		return p.refuse("exp is %s, not a time", c.show("exp"))
	}
	if !now.Before(exp.Add(skew)) {
		return p.refuse("the id token has expired: exp is %d, it is %d", exp.Unix(), now.Unix())
	}
	iat, err := c.time("iat")
	if err != nil {
		return p.refuse("iat is %s, not a time", c.show("iat"))
	}
	if iat.After(now.Add(skew)) {
		return p.refuse("the id token is from the future: iat is %d, it is %d; compare the clocks", iat.Unix(), now.Unix())
	}
	for _, name := range []string{"nbf", "auth_time"} {
		at, err := c.time(name)
		if c.has(name) && err != nil {
			return p.refuse("%s is %s, not a time", name, c.show(name))
		}
		if c.has(name) && at.After(now.Add(skew)) {
			return p.refuse("%s is in the future: %d, it is %d; compare the clocks", name, at.Unix(), now.Unix())
		}
	}
	return nil
}

func plausibleSubject(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
