package oidc

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"sallyport/appliance/auth/pending"
)

func TestWhatTheBrowserIsSentWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		p := newCorp(t, i, func(c *Config) { c.Scopes = []string{"openid", "groups"} })
		a, b := begin(t, p, i), begin(t, p, i)
		for _, name := range []string{"state", "nonce", "code_challenge"} {
			if len(a.Get(name)) < 26 || a.Get(name) == b.Get(name) {
				t.Errorf("%s is %q, then %q", name, a.Get(name), b.Get(name))
			}
		}
		for name, want := range map[string]string{
			"response_type": "code", "client_id": clientID, "code_challenge_method": "S256", "scope": "openid groups",
			"redirect_uri": "https://bastion.example/login/corp",
		} {
			if a.Get(name) != want {
				t.Errorf("%s is %q, not %q", name, a.Get(name), want)
			}
		}
		if strings.Contains(a.Encode(), url.QueryEscape(secret)) || strings.Contains(a.Encode(), browser) {
			t.Errorf("a secret is in %s", a.Encode())
		}
		if i.count("/.well-known/openid-configuration") != 1 {
			t.Error("the metadata are asked for each time")
		}
		if _, err := p.Begin(t.Context(), "", false); err == nil {
			t.Error("a sign-in of no browser")
		}
	})
}

func TestClientAuthentication(t *testing.T) {
	for what, c := range map[string]struct {
		methods []string
		secret  string
		want    string // the client's id and secret in the form
	}{
		"post only": {[]string{"client_secret_post"}, secret, clientID + " " + secret},
		"public":    {nil, "", clientID + " "},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(t)
				if c.methods != nil {
					i.metadata["token_endpoint_auth_methods_supported"] = c.methods
				}
				p := newCorp(t, i, func(config *Config) { config.ClientSecret = c.secret })
				var got string
				i.answer = func(form url.Values) (int, any) {
					got = form.Get("client_id") + " " + form.Get("client_secret")
					return 200, map[string]any{"access_token": "x", "id_token": i.idToken}
				}
				if _, err := signIn(t, p, i, nil); err != nil {
					t.Error(err, reason(err))
				}
				if got != c.want {
					t.Errorf("%q, not %q", got, c.want)
				}
			})
		})
	}
}

func TestUserNames(t *testing.T) {
	const refusedName = ", which is no user name here: 1 to 64 of a-z, 0-9, dot, dash, _ and @"
	for what, c := range map[string]struct {
		from   string
		claims map[string]any
		user   string
		line   string
	}{
		"the usual":            {"", map[string]any{"preferred_username": "Ann.M"}, "ann.m", ""},
		"none":                 {"", map[string]any{"preferred_username": nil}, "", `preferred_username, the user name, is absent; is its scope among ["openid" "profile" "email"]?`},
		"a number":             {"", map[string]any{"preferred_username": 7}, "", `preferred_username, the user name, is 7; is its scope among ["openid" "profile" "email"]?`},
		"with a space":         {"", map[string]any{"preferred_username": "Ann M"}, "", `preferred_username is "ann m"` + refusedName},
		"with an umlaut":       {"", map[string]any{"preferred_username": "Änn"}, "", `preferred_username is "Änn"` + refusedName},
		"a Kelvin sign":        {"", map[string]any{"preferred_username": "\u212Aim"}, "", "preferred_username is \"\u212Aim\"" + refusedName},
		"a verified address":   {"email", map[string]any{"email": "Ann@Corp.example", "email_verified": true}, "ann@corp.example", ""},
		"verified as text":     {"email", map[string]any{"email": "ann@corp.example", "email_verified": "true"}, "ann@corp.example", ""},
		"an unverified one":    {"email", map[string]any{"email": "ann@corp.example", "email_verified": false}, "", `email_verified is false, so "ann@corp.example" may be anybody's`},
		"nothing about that":   {"email", map[string]any{"email": "ann@corp.example"}, "", `email_verified is absent, so "ann@corp.example" may be anybody's`},
		"verified by a number": {"email", map[string]any{"email": "ann@corp.example", "email_verified": 1}, "", `email_verified is 1, so "ann@corp.example" may be anybody's`},
		"the subject":          {"sub", nil, "0001", ""},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(t)
				p := newCorp(t, i, func(config *Config) { config.UserClaim = c.from })
				who, err := signIn(t, p, i, func(good map[string]any) {
					for name, value := range c.claims {
						good[name] = value
					}
				})
				if c.line != "" {
					refused(t, err, "corp: "+c.line)
				} else if err != nil || who.User != c.user {
					t.Errorf("%q, %v %s", who.User, err, reason(err))
				}
			})
		})
	}
}

func TestGroups(t *testing.T) {
	many := make([]string, 201)
	for n := range many {
		many[n] = fmt.Sprintf("group-%03d", n)
	}
	for what, c := range map[string]struct {
		claims map[string]any
		groups []string
		told   error
		line   string
	}{
		"none":             {map[string]any{"groups": nil}, nil, nil, ""},
		"an empty list":    {map[string]any{"groups": []string{}}, []string{}, nil, ""},
		"one":              {map[string]any{"groups": "ops"}, []string{"ops"}, nil, ""},
		"two hundred":      {map[string]any{"groups": many[:200]}, many[:200], nil, ""},
		"one more":         {map[string]any{"groups": many}, nil, ErrGroups, "groups has 201 groups, more than 200"},
		"left out":         {map[string]any{"groups": nil, "_claim_names": map[string]string{"groups": "src1"}}, nil, ErrGroups, "the provider left out groups, there are too many (_claim_names)"},
		"left out briefly": {map[string]any{"groups": nil, "hasgroups": true}, nil, ErrGroups, "the provider left out groups, there are too many (hasgroups)"},
		"others left out":  {map[string]any{"_claim_names": map[string]string{"address": "src1"}}, []string{"dev", "ops"}, nil, ""},
		"numbers":          {map[string]any{"groups": []any{"ops", 7}}, nil, ErrRefused, `groups is ["ops",7], not a list of strings`},
		"a mapping":        {map[string]any{"groups": map[string]bool{"ops": true}}, nil, ErrRefused, `groups is {"ops":true}, not a list of strings`},
		"an empty one":     {map[string]any{"groups": []string{""}}, nil, ErrRefused, `groups has the group "", which is not 1 to 256 printable bytes`},
		"a turned one":     {map[string]any{"groups": []string{"a\u202eb"}}, nil, ErrRefused, `groups has the group "a\u202eb", which is not 1 to 256 printable bytes`},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(t)
				who, err := signIn(t, newCorp(t, i), i, func(good map[string]any) {
					for name, value := range c.claims {
						good[name] = value
					}
				})
				if c.told != nil {
					told(t, err, c.told, "corp: "+c.line)
				} else if err != nil || !slices.Equal(who.Groups, c.groups) {
					t.Errorf("%q, %v %s", who.Groups, err, reason(err))
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		p := newCorp(t, i, func(c *Config) { c.GroupsClaim = "https://corp.example/roles" })
		who, err := signIn(t, p, i, func(good map[string]any) { good["https://corp.example/roles"] = []string{"a"} })
		if err != nil || !slices.Equal(who.Groups, []string{"a"}) {
			t.Errorf("%q, %v %s", who.Groups, err, reason(err))
		}
	})
}

func TestUserInfo(t *testing.T) {
	for what, c := range map[string]struct {
		status int
		me     any
		who    string
		told   error
		line   string
	}{
		"all of it":        {200, map[string]any{"sub": "0001", "preferred_username": "Ann", "groups": []string{"ops"}}, "ann 0001 https://id.example [ops]", nil, ""},
		"nothing of use":   {200, map[string]any{"sub": "0001"}, "", ErrRefused, `preferred_username, the user name, is absent; is its scope among ["openid" "profile" "email"]?`},
		"of somebody else": {200, map[string]any{"sub": "0002", "preferred_username": "Ann"}, "", ErrRefused, `the userinfo is of sub "0002", the id token of "0001"`},
		"of nobody":        {200, map[string]any{"preferred_username": "Ann"}, "", ErrRefused, `the userinfo is of sub absent, the id token of "0001"`},
		"too many groups":  {200, map[string]any{"sub": "0001", "preferred_username": "Ann", "hasgroups": true}, "", ErrGroups, "the provider left out groups, there are too many (hasgroups)"},
		"not an object":    {200, []int{1}, "", ErrRefused, `ask for its userinfo: it is not a JSON object: "json: cannot unmarshal array into Go value of type oidc.claims"`},
		"a no":             {403, nil, "", ErrRefused, "ask for its userinfo: it answers 403 Forbidden"},
		"a fault":          {500, nil, "", ErrDown, "ask for its userinfo: it answers 500 Internal Server Error"},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(t)
				i.metadata["userinfo_endpoint"] = issuerURL + "/me"
				i.meStatus, i.me = c.status, c.me
				who, err := signIn(t, newCorp(t, i), i, func(good map[string]any) { good["preferred_username"], good["groups"] = nil, nil })
				if c.told != nil {
					told(t, err, c.told, "corp: "+c.line)
				} else if err != nil || show(who) != c.who {
					t.Errorf("%s, %v %s", show(who), err, reason(err))
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		i.metadata["userinfo_endpoint"] = issuerURL + "/me"
		i.meStatus, i.me = 200, map[string]any{"sub": "0001", "preferred_username": "mallory", "groups": []string{"admins"}}
		p := newCorp(t, i)
		if who, err := signIn(t, p, i, nil); err != nil || show(who) != "ann 0001 https://id.example [dev ops]" || i.count("/me") != 0 {
			t.Errorf("the id token says all: %s, %v %s", show(who), err, reason(err))
		}
		if who, err := signIn(t, p, i, func(good map[string]any) { good["groups"] = nil }); err != nil || show(who) != "ann 0001 https://id.example [admins]" {
			t.Errorf("but for the groups: %s, %v %s", show(who), err, reason(err))
		}
	})
}

func TestMFA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for what, c := range map[string]struct {
			amr, acr any
			authTime any
			want     time.Time
		}{
			"a password":           {[]string{"pwd"}, nil, now.Unix() - 60, time.Time{}},
			"a password and a key": {[]string{"pwd", "hwk"}, nil, now.Unix() - 60, now.Add(-time.Minute)},
			"mfa":                  {[]string{"mfa"}, nil, now.Unix() - 3600, now.Add(-time.Hour)},
			"without a time":       {[]string{"mfa"}, nil, nil, now},
			"a class":              {nil, "gold", now.Unix(), now},
			"another class":        {nil, "silver", now.Unix(), time.Time{}},
			"nothing":              {nil, nil, now.Unix(), time.Time{}},
			"methods of no kind":   {7, 7, now.Unix(), time.Time{}},
		} {
			i := newIssuer(t)
			p := newCorp(t, i, func(c *Config) { c.ACR = []string{"gold"} })
			who, err := signIn(t, p, i, func(good map[string]any) {
				good["amr"], good["acr"], good["auth_time"] = c.amr, c.acr, c.authTime
			})
			if err != nil || !who.MFA.Equal(c.want) {
				t.Errorf("%s: %v, %v %s", what, who.MFA, err, reason(err))
			}
		}
	})
}

func TestFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		p := newCorp(t, i)
		for authTime, line := range map[any]string{
			nil:              "auth_time is absent, the person was to sign in again after 946684800",
			int64(946684739): "auth_time is 946684739, the person was to sign in again after 946684800",
			int64(946684740): "",
			int64(946684800): "",
		} {
			address, err := p.Begin(t.Context(), browser, true)
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			asked := u.Query()
			if asked.Get("prompt") != "login" || asked.Get("max_age") != "0" {
				t.Error(address)
			}
			i.challenge = asked.Get("code_challenge")
			c := i.claims(asked.Get("nonce"))
			if c["auth_time"] = authTime; authTime == nil {
				delete(c, "auth_time")
			}
			i.idToken = sign(t, jose.EdDSA, "ed-1", edKey, nil, encode(t, c))
			_, err = p.Finish(t.Context(), browser, answerOf(asked))
			if line != "" {
				refused(t, err, "corp: "+line)
			} else if err != nil {
				t.Error(err, reason(err))
			}
		}
	})
}

func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		p := newCorp(t, i)
		who, err := signIn(t, p, i, nil)
		if err != nil {
			t.Fatal(err, reason(err))
		}
		var log strings.Builder
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "session", who.Session)
		if text := fmt.Sprintf("%v %+v %s %s", who, who, who.Session, log.String()); strings.Contains(text, who.Session.Refresh) {
			t.Errorf("a log has the refresh token: %s", text)
		}
		// again makes the token of the next refresh.
		again := func(change func(map[string]any)) {
			c := i.claims(who.Session.Nonce)
			c["auth_time"] = who.Session.AuthTime.Unix()
			c["groups"] = []string{"dev"}
			change(c)
			i.idToken = sign(t, jose.RS256, "rsa-1", rsaKey, nil, encode(t, c))
		}
		time.Sleep(time.Hour)
		for _, change := range []func(map[string]any){
			func(map[string]any) {},
			func(c map[string]any) { delete(c, "nonce") },
			func(c map[string]any) { delete(c, "auth_time") },
		} {
			before := who.Session
			again(change)
			next, err := p.Refresh(t.Context(), who.Session)
			if err != nil || show(next) != "ann 0001 https://id.example [dev]" || !next.AuthTime.Equal(who.AuthTime) {
				t.Fatalf("%s, %v %s", show(next), err, reason(err))
			}
			if next.Session.Refresh == before.Refresh || next.Session.Nonce != before.Nonce {
				t.Errorf("%+v after %+v", next.Session, before)
			}
			who = next
		}
		for line, change := range map[string]func(map[string]any){
			`sub is "0002", at the sign-in it was "0001"`:                 func(c map[string]any) { c["sub"] = "0002" },
			`nonce is not the one of this sign-in`:                        func(c map[string]any) { c["nonce"] = "x" },
			`auth_time is 946688400, at the sign-in it was 946684800`:     func(c map[string]any) { c["auth_time"] = time.Now().Unix() },
			`iss is "https://evil.example", not "https://id.example"`:     func(c map[string]any) { c["iss"] = "https://evil.example" },
			`the id token has expired: exp is 946684800, it is 946688400`: func(c map[string]any) { c["exp"] = 946684800 },
		} {
			again(change)
			who.Session.Refresh = i.refresh
			_, err := p.Refresh(t.Context(), who.Session)
			refused(t, err, "corp: "+line)
		}

		used := who.Session // its token was taken by the last refresh
		_, err = p.Refresh(t.Context(), used)
		told(t, err, ErrEnded, `corp: refresh: the provider answered 400 Bad Request, "invalid_grant", "no"`)
		_, err = p.Refresh(t.Context(), Session{})
		told(t, err, ErrEnded, "corp: the provider gave no refresh token")

		i.answer = func(url.Values) (int, any) { return 503, map[string]any{"error": "later"} }
		_, err = p.Refresh(t.Context(), used)
		told(t, err, ErrDown, "corp: refresh: it answers 503 Service Unavailable")
		i.answer = func(url.Values) (int, any) { return 401, map[string]any{"error": "invalid_client"} }
		_, err = p.Refresh(t.Context(), used)
		refused(t, err, `corp: refresh: the provider answered 401 Unauthorized, "invalid_client", ""`)
		i.answer = func(url.Values) (int, any) { return 200, map[string]any{"access_token": "x"} }
		_, err = p.Refresh(t.Context(), used)
		refused(t, err, "corp: the provider gave no id token at the refresh, so nobody knows what is true now")
	})
}

func TestEndSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		got, err := newCorp(t, i).EndSession(t.Context(), "https://bastion.example/bye")
		if err != nil || got != "https://id.example/end?client_id=sallyport&post_logout_redirect_uri=https%3A%2F%2Fbastion.example%2Fbye&x=1" {
			t.Errorf("%s, %v", got, err)
		}
		delete(i.metadata, "end_session_endpoint")
		if got, err := newCorp(t, i).EndSession(t.Context(), ""); got != "" || err != nil {
			t.Errorf("%s, %v", got, err)
		}
	})
}

func TestSets(t *testing.T) {
	waiting := pending.NewMemory(pending.Config{})
	i := newIssuer(t)
	good := Config{Name: "corp", Issuer: issuerURL, ClientID: clientID, ClientSecret: secret, RedirectURL: "https://bastion.example/login/corp", HTTP: &http.Client{Transport: i}}
	change := func(f func(*Config)) Config {
		c := good
		f(&c)
		return c
	}
	for words, configs := range map[string][]Config{
		`two identity providers are called "corp"`:       {good, change(func(c *Config) { c.RedirectURL += "2" })},
		`have the same redirect URL`:                     {good, change(func(c *Config) { c.Name = "lab" })},
		`the name of a provider`:                         {change(func(c *Config) { c.Name = "Corp!" })},
		`issuer: "http://id.example" is not https`:       {change(func(c *Config) { c.Issuer = "http://id.example" })},
		`issuer: "" is not a URL that will do`:           {change(func(c *Config) { c.Issuer = "" })},
		`redirect URL: "http://bastion.example" is not`:  {change(func(c *Config) { c.RedirectURL = "http://bastion.example" })},
		`client_id is missing`:                           {change(func(c *Config) { c.ClientID = "" })},
		`the scopes are without openid`:                  {change(func(c *Config) { c.Scopes = []string{"email"} })},
		`user names come from preferred_username, email`: {change(func(c *Config) { c.UserClaim = "name" })},
	} {
		if _, err := NewSet(waiting, configs...); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v, not %s", err, words)
		}
	}

	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t)
		corp := change(func(c *Config) { c.HTTP = &http.Client{Transport: i} })
		lab := corp
		lab.Name, lab.RedirectURL = "lab", "https://bastion.example/login/lab"
		s, err := NewSet(pending.NewMemory(pending.Config{}), corp, lab)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.Names(), []string{"corp", "lab"}) {
			t.Error(s.Names())
		}
		if _, err := s.Begin(t.Context(), "other", browser, false); !errors.Is(err, ErrUnknown) {
			t.Error(err)
		}
		address, err := s.Begin(t.Context(), "corp", browser, false)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Finish(t.Context(), "lab", browser, answerOf(u.Query()))
		refused(t, err, `lab: the answer belongs to a sign-in at "corp"`)
		_, err = s.Refresh(t.Context(), Session{Provider: "lab"})
		told(t, err, ErrEnded, "lab: the provider gave no refresh token")
	})
}
