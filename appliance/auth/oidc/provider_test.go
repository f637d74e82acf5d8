package oidc

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/appliance/auth/pending"
	oidcprovider "sallyport/tests/oidc-provider"
)

// TestRealProvider signs in at npm's oidc-provider: with its forms, its refresh tokens that are good once, a new
// signing key, and while it is away.
func TestRealProvider(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a Node process")
	}
	const redirect = "http://127.0.0.1:1/login/corp"
	idp := oidcprovider.Start(t, redirect)
	var ahead atomic.Int64 // of the clock
	var reached []string
	config := Config{
		Name: "corp", Issuer: idp.Issuer, ClientID: oidcprovider.ClientID, ClientSecret: oidcprovider.ClientSecret, RedirectURL: redirect,
		Clock: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		Reach: func(urls ...string) { reached = urls },
	}
	s, err := NewSet(pending.NewMemory(pending.Config{}), config)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Provider("corp")
	if err != nil {
		t.Fatal(err)
	}
	login := func(user string) (Identity, error) {
		to, err := p.Begin(t.Context(), browser, false)
		if err != nil {
			return Identity{}, err
		}
		return p.Finish(t.Context(), browser, idp.Login(t, to, user))
	}

	ann, err := login("ann")
	if err != nil {
		t.Fatal(err, reason(err))
	}
	if ann.User != "ann" || ann.Subject != "ann" || ann.Issuer != idp.Issuer || !slices.Equal(ann.Groups, []string{"dev", "ops"}) ||
		time.Since(ann.AuthTime).Abs() > time.Minute || !ann.MFA.IsZero() || ann.Session.Refresh == "" {
		t.Errorf("%+v", ann)
	}
	if want := []string{idp.Issuer + "/token", idp.Issuer + "/jwks", idp.Issuer + "/me"}; !slices.Equal(reached, want) {
		t.Errorf("it is said to be asked at %q, not %q", reached, want)
	}
	if _, err := login("Bob B"); !errors.Is(err, ErrRefused) || reason(err) != `corp: preferred_username is "bob b", which is no user name here: 1 to 64 of a-z, 0-9, dot, dash, _ and @` {
		t.Error(err, reason(err))
	}

	t.Run("a code is good once", func(t *testing.T) {
		to, err := p.Begin(t.Context(), browser, false)
		if err != nil {
			t.Fatal(err)
		}
		first := idp.Login(t, to, "ann")
		if to, err = p.Begin(t.Context(), browser, false); err != nil {
			t.Fatal(err)
		}
		second := idp.Login(t, to, "bob")
		second.Set("code", first.Get("code")) // ann's, into bob's sign-in: PKCE is in its way
		_, err = p.Finish(t.Context(), browser, second)
		if !errors.Is(err, ErrRefused) || !strings.Contains(reason(err), `"invalid_grant"`) {
			t.Error(err, reason(err))
		}
	})

	t.Run("refresh", func(t *testing.T) {
		for range 2 {
			used := ann.Session
			next, err := p.Refresh(t.Context(), used)
			if err != nil {
				t.Fatal(err, reason(err))
			}
			if next.User != "ann" || !next.AuthTime.Equal(ann.AuthTime) || next.Session.Refresh == used.Refresh {
				t.Errorf("%+v", next)
			}
			ann = next
		}
	})

	t.Run("a new key", func(t *testing.T) {
		idp.Do(t, "rotate")
		if _, err := login("bob"); !errors.Is(err, ErrRefused) || !strings.Contains(reason(err), "the provider has no key with the id") {
			t.Errorf("within the minute: %v %s", err, reason(err))
		}
		ahead.Add(int64(unknownEvery))
		defer ahead.Store(0)
		bob, err := login("bob")
		if err != nil || bob.User != "bob" {
			t.Errorf("%+v, %v %s", bob, err, reason(err))
		}
	})

	t.Run("away in the middle", func(t *testing.T) {
		to, err := p.Begin(t.Context(), browser, false)
		if err != nil {
			t.Fatal(err)
		}
		back := idp.Login(t, to, "ann")
		idp.Do(t, "down")
		if _, err := p.Finish(t.Context(), browser, back); !errors.Is(err, ErrDown) || !strings.Contains(reason(err), "exchange the code") {
			t.Error(err, reason(err))
		}
		if _, err := p.Refresh(t.Context(), ann.Session); !errors.Is(err, ErrDown) {
			t.Error(err, reason(err))
		}
		fresh, err := NewSet(pending.NewMemory(pending.Config{}), config)
		if err != nil {
			t.Fatal("an appliance does not start while its provider is away: ", err)
		}
		if _, err := fresh.Begin(t.Context(), "corp", browser, false); !errors.Is(err, ErrDown) {
			t.Error(err, reason(err))
		}
		idp.Do(t, "up")
		if _, err := login("ann"); err != nil {
			t.Error(err, reason(err))
		}
		if next, err := p.Refresh(t.Context(), ann.Session); err != nil || next.User != "ann" {
			t.Error(err, reason(err))
		}
	})

	t.Run("a used refresh token", func(t *testing.T) {
		if _, err := p.Refresh(t.Context(), ann.Session); !errors.Is(err, ErrEnded) {
			t.Error(err, reason(err))
		}
	})

	t.Run("signing in again", func(t *testing.T) {
		to, err := p.Begin(t.Context(), browser, true)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := p.Finish(t.Context(), browser, idp.Login(t, to, "ann")); err != nil || who.User != "ann" {
			t.Error(err, reason(err))
		}
	})

	t.Run("the end", func(t *testing.T) {
		to, err := p.EndSession(t.Context(), "http://127.0.0.1:1/bye")
		if err != nil {
			t.Fatal(err)
		}
		page, err := http.Get(to)
		if err != nil {
			t.Fatal(err)
		}
		defer page.Body.Close()
		if body, err := io.ReadAll(page.Body); err != nil || page.StatusCode != 200 {
			t.Errorf("%s: %s %v", to, body, err)
		}
	})
}
