package config

import (
	"cmp"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"sallyport/appliance/policy/yamlfile"
)

// Identity is how people sign in. Without it devices enrol with codes, and that is all.
type Identity struct {
	URL       string        `yaml:"url"`       // of the appliance, as browsers have it; must be given with the others
	Lasts     time.Duration `yaml:"lasts"`     // a sign-in; default 12h
	Refresh   time.Duration `yaml:"refresh"`   // how often an identity provider is asked whether it still holds; default 15m
	Token     time.Duration `yaml:"token"`     // how long an access token is good; default 10m
	Providers []Provider    `yaml:"providers"` // identity providers, in the order in which people see them
	Local     Local         `yaml:"local"`     // accounts of the appliance's own
}

// A Provider is an OpenID Connect provider.
type Provider struct {
	Name             string   `yaml:"name"`   // part of its redirect URL, which ends in /login/NAME
	Issuer           string   `yaml:"issuer"` // exactly as the provider writes it
	ClientID         string   `yaml:"client_id"`
	ClientSecretFile string   `yaml:"client_secret_file"` // a file of one line, readable by its owner only; default: a public client
	Scopes           []string `yaml:"scopes"`             // default openid, profile, email
	User             string   `yaml:"user"`               // the claim of the user name: preferred_username, email or sub; default the first
	Groups           string   `yaml:"groups"`             // the claim of the groups; default groups
	MFA              MFA      `yaml:"mfa"`
}

// MFA says what of a provider's counts as a second factor.
type MFA struct {
	AMR []string `yaml:"amr"` // any of these; default mfa, hwk, otp, sc, swk, fido
	ACR []string `yaml:"acr"` // or one of these; default none
}

// Local is how accounts of the appliance's own sign in.
type Local struct {
	PasswordAlone bool `yaml:"password_alone"` // lets accounts in that have no second factor
}

func (i Identity) withDefaults() Identity {
	if i.URL != "" {
		i.Lasts = cmp.Or(i.Lasts, 12*time.Hour)
		i.Refresh = cmp.Or(i.Refresh, 15*time.Minute)
		i.Token = cmp.Or(i.Token, 10*time.Minute)
	}
	return i
}

func (c *checker) checkIdentity() {
	if !c.Has("identity") {
		return
	}
	c.checkURL()
	for key, d := range map[string]struct{ is, least, most time.Duration }{
		"lasts":   {c.Identity.Lasts, time.Minute, 90 * 24 * time.Hour},
		"refresh": {c.Identity.Refresh, time.Second, 24 * time.Hour},
		"token":   {c.Identity.Token, time.Second, time.Hour},
	} {
		if c.Has("identity", key) && (d.is < d.least || d.is > d.most) {
			c.Fault(c.At("identity", key), "", "identity.%s must be %v to %v", key, d.least, d.most)
		}
	}
	for i := range c.Identity.Providers {
		c.checkProvider(&c.Identity.Providers[i], i)
	}
}

// checkURL makes of identity.url what browsers write in Origin, which is compared to the letter: in lower case, without the
// port that https has anyway, and without the slash at the end.
func (c *checker) checkURL() {
	const example = "such as https://bastion.example"
	at, written := c.urlOfIdentity(), c.Identity.URL
	u, err := url.Parse(written)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.HasSuffix(u.Host, ":") {
		c.Fault(at, example, "identity.url is %q, which is not the appliance's address", written)
		return
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		c.Fault(at, "write https://"+u.Host, "identity.url is %q, which goes on behind the address: the appliance has all of a name", written)
		return
	}
	host := strings.ToLower(u.Hostname())
	address, err := netip.ParseAddr(host)
	switch {
	case err == nil && len(c.Identity.Providers) == 0:
		c.Fault(at, example, "identity.url has an IP address; passkeys belong to names")
	case strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }):
		c.Fault(at, "write it as DNS has it, with xn--", "identity.url is %q, and browsers write its name otherwise", written)
	case err == nil:
		host = address.String()
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	c.Identity.URL = "https://" + host
	if port := u.Port(); port != "" && port != "443" {
		c.Identity.URL += ":" + port
	}
}

// urlOfIdentity is where identity.url stands, or should.
func (c *checker) urlOfIdentity() yamlfile.Position {
	if c.Has("identity", "url") {
		return c.At("identity", "url")
	}
	return c.At("identity")
}

func (c *checker) checkProvider(p *Provider, i int) {
	at := func(key string) yamlfile.Position {
		if !c.Has("identity", "providers", i, key) {
			return c.At("identity", "providers", i)
		}
		return c.At("identity", "providers", i, key)
	}
	if !vnetName.MatchString(p.Name) {
		c.Fault(at("name"), "such as corp", "the provider's name %q must be 1 to 32 of a-z, 0-9 and -", p.Name)
	} else if slices.Contains([]string{"account", "browser", "code", "device"}, p.Name) {
		c.Fault(at("name"), "give it another", "the provider's name %q is that of a page of the appliance's own", p.Name)
	} else if slices.ContainsFunc(c.Identity.Providers[:i], func(o Provider) bool { return o.Name == p.Name }) {
		c.Fault(at("name"), "", "there are two providers %q", p.Name)
	}
	u, err := url.Parse(p.Issuer)
	local := err == nil && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1" || u.Hostname() == "::1")
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && local) {
		c.Fault(at("issuer"), "such as https://id.corp.example", "the issuer %q is not an https URL", p.Issuer)
	}
	if p.ClientID == "" {
		c.Fault(at("client_id"), "the provider gives you one when you register the appliance", "provider %q has no client_id", p.Name)
	}
	if p.ClientSecretFile != "" {
		c.path(&p.ClientSecretFile, true, "identity", "providers", i, "client_secret_file")
	}
	if len(p.Scopes) > 0 && !slices.Contains(p.Scopes, "openid") {
		c.Fault(at("scopes"), "add openid", "the scopes of provider %q are without openid", p.Name)
	}
	if p.User != "" && !slices.Contains([]string{"preferred_username", "email", "sub"}, p.User) {
		c.Fault(at("user"), "", "user names come from preferred_username, email or sub, not from %q", p.User)
	}
}
