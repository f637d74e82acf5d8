// Package token makes and checks the short-lived access tokens that a device shows beside its key.
//
//	signer, err := token.New(token.Config{Fleet: "bastion.example"}, key)
//	text, err := signer.Sign(token.Claims{User: "ann", SignIn: id, Groups: groups, MFA: at}, devicePublicKey)
//	claims, err := signer.Verify(text, devicePublicKey) // the key that HELLO has proved
//
// # Bound to a device
//
// A token names the RFC 7638 thumbprint of one device's key (cnf.jkt, RFC 7800) and is good only on a connection that
// has proved that key. Whoever copies a token, from a log or a disk, has nothing without the key.
//
// # One form
//
// A token is a JWT: three parts, EdDSA, typ at+jwt (RFC 9068). Only this package makes them and only this package reads
// them, so there is one spelling of each: the header must be the bytes that a known key writes, and the claims must be
// the bytes that Sign would write for what they say. An algorithm is never chosen by the token.
//
// # Keys
//
// One key signs and up to two verify: after Rotate the key before stays good for as long as its tokens live.
package token

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"sallyport/appliance/auth"
)

// ErrRefused is what a device is told of any token that is not good for it. The Detail in it is for the log.
var ErrRefused = &auth.Error{Code: "E_AUTH", Sentence: "the access token is not accepted", Hint: "run sallyport login"}

// ErrExpired is the answer to a good token whose time is over.
var ErrExpired = &auth.Error{Code: "E_TOKEN_EXPIRED", Sentence: "the access token has expired", Hint: "run sallyport login"}

// A Detail says exactly what is wrong with a token.
type Detail struct{ Reason string }

func (d *Detail) Error() string { return d.Reason }

// A refusal reads as ErrRefused or ErrExpired to the person and has the Detail for the log.
type refusal struct {
	told   *auth.Error
	detail *Detail
}

func (r *refusal) Error() string   { return r.told.Error() }
func (r *refusal) Unwrap() []error { return []error{r.told, r.detail} }

func refuse(format string, args ...any) error {
	return &refusal{ErrRefused, &Detail{fmt.Sprintf(format, args...)}}
}

const (
	maxToken = 12288 // bytes, what a HELLO carries
	skew     = time.Minute
)

// A Key signs tokens; auth.Identity is one.
type Key interface {
	Sign(message []byte) []byte
	Public() ed25519.PublicKey
}

// Config says whose tokens these are.
type Config struct {
	Fleet    string           // issuer and audience: the name that the appliances of a fleet share and others have not
	Lifetime time.Duration    // default 10 minutes
	Clock    func() time.Time // default time.Now
}

func (c Config) withDefaults() Config {
	c.Lifetime = cmp.Or(c.Lifetime, 10*time.Minute)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

// A Signer makes tokens and checks them.
type Signer struct {
	config Config

	mu      sync.RWMutex
	current keyed
	before  keyed // its Key is nil until there was a Rotate
}

// keyed is a key and the header that it writes.
type keyed struct {
	Key
	header string
}

// New returns a Signer with one key.
func New(c Config, key Key) (*Signer, error) {
	if c.Fleet == "" {
		return nil, errors.New("access tokens need the name of the fleet that they are for")
	}
	return &Signer{config: c.withDefaults(), current: withHeader(key)}, nil
}

// Rotate makes next the key that signs. The key before it goes on to verify, the one before that does not.
func (s *Signer) Rotate(next Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current, s.before = withHeader(next), s.current
}

func withHeader(k Key) keyed {
	header := fmt.Sprintf(`{"alg":"EdDSA","kid":"%s","typ":"at+jwt"}`, Thumbprint(k.Public()))
	return keyed{k, b64.EncodeToString([]byte(header))}
}

// keys returns the keys that verify.
func (s *Signer) keys() []keyed {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.before.Key == nil {
		return []keyed{s.current}
	}
	return []keyed{s.current, s.before}
}

// b64 has one spelling for the same bytes.
var b64 = base64.RawURLEncoding.Strict()

// Sign returns a token for a device, from now until Lifetime has passed. It sets ID, Issued and Expires.
func (s *Signer) Sign(c Claims, device ed25519.PublicKey) (string, error) {
	now := s.config.Clock()
	c.ID, c.Issued, c.Expires = rand.Text(), now, now.Add(s.config.Lifetime)
	if err := c.check(); err != nil {
		return "", err
	}
	body, err := json.Marshal(c.form(s.config.Fleet, device))
	if err != nil {
		return "", fmt.Errorf("write an access token: %w", err)
	}
	s.mu.RLock()
	key := s.current
	s.mu.RUnlock()
	signed := key.header + "." + b64.EncodeToString(body)
	text := signed + "." + b64.EncodeToString(key.Sign([]byte(signed)))
	if len(text) > maxToken {
		return "", fmt.Errorf("the access token of %s has %d bytes, more than %d: %d groups are too many", c.User, len(text), maxToken, len(c.Groups))
	}
	return text, nil
}

// Verify returns what a token says if it is good now, here and for the device whose key is proved.
func (s *Signer) Verify(text string, device ed25519.PublicKey) (Claims, error) {
	if len(text) > maxToken {
		return Claims{}, refuse("the token has %d bytes, more than %d", len(text), maxToken)
	}
	// Decoders of base64 skip line breaks, so a token with some would be a second spelling of one without.
	if strings.ContainsAny(text, "\r\n") {
		return Claims{}, refuse("the token has line breaks in it")
	}
	parts := strings.SplitN(text, ".", 4)
	if len(parts) != 3 {
		return Claims{}, refuse("the token is not three parts with dots between")
	}
	key, err := s.find(parts[0])
	if err != nil {
		return Claims{}, err
	}
	signature, err := b64.DecodeString(parts[2])
	if err != nil || !ed25519.Verify(key.Public(), []byte(parts[0]+"."+parts[1]), signature) {
		return Claims{}, refuse("the signature does not verify")
	}
	f, err := parseBody(parts[1])
	if err != nil {
		return Claims{}, err
	}
	return s.judge(f, device)
}

// find returns the key that writes this header.
func (s *Signer) find(header string) (keyed, error) {
	for _, k := range s.keys() {
		if header == k.header {
			return k, nil
		}
	}
	text, err := b64.DecodeString(header)
	if err != nil {
		return keyed{}, refuse("the header is not base64url")
	}
	return keyed{}, refuse("the header %.200q is not of a key that is in use", text)
}

// parseBody reads the claims and wants them as Sign writes them.
func parseBody(part string) (form, error) {
	body, err := b64.DecodeString(part)
	if err != nil {
		return form{}, refuse("the claims are not base64url")
	}
	var f form
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return form{}, refuse("the claims cannot be read: %.200q", err.Error())
	}
	if _, err := d.Token(); err != io.EOF {
		return form{}, refuse("something follows the claims")
	}
	if again, err := json.Marshal(f); err != nil || !bytes.Equal(again, body) {
		return form{}, refuse("the claims are not spelled as they would be here")
	}
	return f, nil
}

// judge compares what a token says with where and when it is shown.
func (s *Signer) judge(f form, device ed25519.PublicKey) (Claims, error) {
	now := s.config.Clock()
	switch {
	case f.Issuer != s.config.Fleet || f.Audience != s.config.Fleet:
		return Claims{}, refuse("the token is of %.80q for %.80q, not of this fleet", f.Issuer, f.Audience)
	case f.Confirm.Thumbprint != Thumbprint(device):
		return Claims{}, refuse("the token is bound to the device key %.80q, the connection has proved %q", f.Confirm.Thumbprint, Thumbprint(device))
	case time.Unix(f.Issued, 0).After(now.Add(skew)):
		return Claims{}, refuse("the token is from the future: %d, and it is %d", f.Issued, now.Unix())
	}
	c := f.claims()
	if err := c.check(); err != nil {
		return Claims{}, refuse("%v", err)
	}
	if !now.Before(c.Expires) {
		return Claims{}, &refusal{ErrExpired, &Detail{fmt.Sprintf("the token has expired at %d, and it is %d", f.Expires, now.Unix())}}
	}
	return c, nil
}
