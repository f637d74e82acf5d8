package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// FuzzHashLink: what is taken for a link's secret is one in exactly one way.
func FuzzHashLink(f *testing.F) {
	whole := base64.RawURLEncoding.EncodeToString(make([]byte, linkSecretBytes))
	for _, seed := range []string{"", whole, whole + "A", whole[1:], strings.ToLower(whole), whole[:42] + "B", whole[:42] + "\n", "#" + whole[1:]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, secret string) {
		hash, ok := HashLink(secret)
		if !ok {
			return
		}
		b, err := base64.RawURLEncoding.DecodeString(secret)
		if err != nil || len(b) != linkSecretBytes || base64.RawURLEncoding.EncodeToString(b) != secret || sha256.Sum256(b) != hash {
			t.Errorf("%q is taken", secret)
		}
	})
}

func TestGuestLinkIsGood(t *testing.T) {
	now := time.Now()
	l := GuestLink{ID: "x", Target: "db-1", Protocol: "ssh", Expires: now.Add(time.Minute)}
	if !l.Good(now) || l.Good(l.Expires) {
		t.Error("a link is good until it expires, and not then")
	}
	s := l.Scope()
	if s.IsZero() || !s.Has("db-1", "ssh") || s.Has("db-1", "rdp") || s.Has("db-2", "ssh") || !s.Over(l.Expires) || s.Link != "x" {
		t.Errorf("%+v", s)
	}
	if narrower := s.sorted(); !narrower.Equal(Scope{Targets: s.Targets, Protocols: s.Protocols, Until: s.Until.Truncate(time.Microsecond), Link: "x"}) {
		t.Errorf("%+v", narrower)
	}
	if (Scope{Link: "x"}).IsZero() || (Scope{Link: "x"}).Equal(Scope{}) {
		t.Error("a link narrows nothing")
	}
	l.Revoked = now
	if l.Good(now) {
		t.Error("a revoked link is good")
	}
}
