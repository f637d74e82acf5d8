// Package oidc signs people in at an OpenID Connect provider.
//
//	set, err := oidc.NewSet(waiting, oidc.Config{Name: "corp", Issuer: "https://id.corp.example", ClientID: "sallyport",
//		ClientSecret: secret, RedirectURL: "https://bastion.example/login/corp"})
//	url, err := set.Begin(ctx, "corp", browser, false)     // where to send the browser
//	who, err := set.Finish(ctx, "corp", browser, r.Form)   // what it came back with
//	who, err := set.Refresh(ctx, who.Session)              // later: is this still so?
//
// # What is checked
//
// The flow is authorization code with PKCE S256, state and nonce, bound to the browser that began it. The answer must
// come from the provider that was asked (RFC 9207) and at its own redirect URL. The ID token must be signed by a key of
// the provider with RS256, PS256, ES256 or EdDSA, and issued by it, for this client alone, now, for this sign-in.
//
// go-oidc does discovery and oauth2 the requests. The token is judged here: go-oidc's verifier would ask the provider
// for its keys at every token whose signature is bad, and takes other times and audiences than this package wants.
//
// # What is told
//
// Whatever is wrong with an answer or a token, the person gets ErrRefused. The log gets the exact reason:
//
//	if d, ok := errors.AsType[*oidc.Detail](err); ok { log.Warn("sign-in refused", "cause", d) }
//
// A provider that does not answer is ErrDown, one that leaves out a person's groups is ErrGroups: those two are nobody's
// attack, and the person can do something about them.
//
// # Names
//
// A person is the pair of issuer and subject. The user name is taken from a claim, in lower case, and whoever keeps
// accounts makes sure that a name stays with its pair.
package oidc

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"sallyport/appliance/auth/pending"
)

// Config is one provider.
type Config struct {
	Name         string // short; part of the redirect URL
	Issuer       string // exactly as the provider writes it
	ClientID     string
	ClientSecret string // empty for a public client
	RedirectURL  string // registered with the provider, and no other provider's

	Scopes      []string // default openid, profile, email
	UserClaim   string   // preferred_username (default), email or sub
	GroupsClaim string   // default "groups"

	// A sign-in counts as multi-factor if the provider says one of these in amr, or has one of these as acr.
	AMR []string // default mfa, and the methods of RFC 8176 that stand for it: hwk, otp, sc, swk, fido
	ACR []string // default none

	// Reach is told the URLs that the provider's metadata name and that it is asked at, before it is; may be nil.
	Reach func(urls ...string)

	HTTP  *http.Client     // limits are put around it; default one with its own transport
	Clock func() time.Time // default time.Now
}

func (c Config) withDefaults() Config {
	if len(c.Scopes) == 0 {
		c.Scopes = []string{"openid", "profile", "email"}
	}
	c.UserClaim = cmp.Or(c.UserClaim, "preferred_username")
	c.GroupsClaim = cmp.Or(c.GroupsClaim, "groups")
	if c.AMR == nil {
		c.AMR = []string{"mfa", "hwk", "otp", "sc", "swk", "fido"}
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

var providerName = regexp.MustCompile(`^[a-z0-9-]{1,32}$`)

// check reports every fault together.
func (c Config) check() error {
	var faults []error
	if !providerName.MatchString(c.Name) {
		faults = append(faults, fmt.Errorf("the name of a provider is 1 to 32 of a-z, 0-9 and dash; %.80q is not one", c.Name))
	}
	if c.ClientID == "" {
		faults = append(faults, errors.New("client_id is missing"))
	}
	for what, text := range map[string]string{"issuer": c.Issuer, "redirect URL": c.RedirectURL} {
		if err := checkURL(text); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", what, err))
		}
	}
	if !slices.Contains(c.Scopes, "openid") {
		faults = append(faults, errors.New("the scopes are without openid"))
	}
	if !slices.Contains([]string{"preferred_username", "email", "sub"}, c.UserClaim) {
		faults = append(faults, fmt.Errorf("user names come from preferred_username, email or sub, not from %.80q", c.UserClaim))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("identity provider %.80q: %w", c.Name, err)
	}
	return nil
}

// checkURL wants HTTPS, or anything on loopback, where nobody listens between.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("%.200q is not a URL that will do", text)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%.200q is not https", text)
}

// A Provider is one that people sign in at.
type Provider struct {
	config  Config
	http    *http.Client
	waiting pending.Store
	keys    *keySet
	turn    chan struct{} // held by who asks for the metadata

	mu     sync.Mutex
	known  *metadata // nil before the first answer
	failed failure
}

func newProvider(waiting pending.Store, c Config) (*Provider, error) {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	client := limited(c.HTTP)
	return &Provider{
		config:  c,
		http:    client,
		waiting: waiting,
		keys:    newKeySet(client, c.Clock),
		turn:    make(chan struct{}, 1),
	}, nil
}

// oauth returns what the requests to the provider have in common.
func (p *Provider) oauth(m *metadata) *oauth2.Config {
	endpoint := m.provider.Endpoint()
	// Chosen by what the provider says, never by trying: a try with the wrong one uses up the code.
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if p.config.ClientSecret == "" || len(m.AuthMethods) > 0 && !slices.Contains(m.AuthMethods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return &oauth2.Config{
		ClientID: p.config.ClientID, ClientSecret: p.config.ClientSecret, Endpoint: endpoint,
		RedirectURL: p.config.RedirectURL, Scopes: p.config.Scopes,
	}
}
