package token

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"time"

	"sallyport/appliance/auth"
)

const (
	maxGroups = 200
	maxGroup  = 256
	maxID     = 64
)

// Claims are what a token says of a person.
type Claims struct {
	User   string
	SignIn string    // the id of the sign-in that it comes from, to end all of its tokens by
	Groups []string  // as they were at the sign-in
	MFA    time.Time // when the person has last shown a second factor; zero for never

	ID      string // of the token
	Issued  time.Time
	Expires time.Time
}

// form is how claims are written. The order of its fields is the order of the bytes.
type form struct {
	Issuer   string   `json:"iss"`
	Audience string   `json:"aud"`
	User     string   `json:"sub"`
	ID       string   `json:"jti"`
	SignIn   string   `json:"sid"`
	Issued   int64    `json:"iat"`
	Expires  int64    `json:"exp"`
	MFA      int64    `json:"mfa,omitempty"`
	Groups   []string `json:"groups,omitempty"`
	Confirm  confirm  `json:"cnf"`
}

type confirm struct {
	Thumbprint string `json:"jkt"`
}

func (c Claims) form(fleet string, device ed25519.PublicKey) form {
	f := form{
		Issuer: fleet, Audience: fleet, User: c.User, ID: c.ID, SignIn: c.SignIn,
		Issued: c.Issued.Unix(), Expires: c.Expires.Unix(), Groups: c.Groups, Confirm: confirm{Thumbprint(device)},
	}
	if !c.MFA.IsZero() {
		f.MFA = c.MFA.Unix()
	}
	return f
}

func (f form) claims() Claims {
	c := Claims{
		User: f.User, SignIn: f.SignIn, Groups: f.Groups, ID: f.ID,
		Issued: time.Unix(f.Issued, 0), Expires: time.Unix(f.Expires, 0),
	}
	if f.MFA != 0 {
		c.MFA = time.Unix(f.MFA, 0)
	}
	return c
}

// check returns what no token may say, whoever signs it.
func (c Claims) check() error {
	if err := auth.CheckUser(c.User); err != nil {
		return fmt.Errorf("the user of an access token: %w", err)
	}
	if c.SignIn == "" || len(c.SignIn) > maxID || c.ID == "" || len(c.ID) > maxID {
		return fmt.Errorf("an access token of %s has no sign-in or no id, or one over %d bytes", c.User, maxID)
	}
	if len(c.Groups) > maxGroups {
		return fmt.Errorf("an access token of %s has %d groups, more than %d", c.User, len(c.Groups), maxGroups)
	}
	for _, g := range c.Groups {
		if g == "" || len(g) > maxGroup {
			return fmt.Errorf("an access token of %s has a group that is empty or over %d bytes", c.User, maxGroup)
		}
	}
	return nil
}

// Thumbprint returns the RFC 7638 thumbprint of an Ed25519 key: SHA-256 over the members that RFC 8037 requires, in
// base64url.
func Thumbprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"Ed25519","kty":"OKP","x":"%s"}`, b64.EncodeToString(key)))
	return b64.EncodeToString(sum[:])
}
