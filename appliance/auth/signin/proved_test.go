package signin

import (
	"errors"
	"net/url"
	"testing"
	"testing/synctest"
	"time"
)

// TestProved: who has just shown all that they sign in with may change it, for a few minutes, and nobody else.
func TestProved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		is := func(what, secret string, want error) {
			t.Helper()
			a, at, err := h.Proved(t.Context(), secret)
			if !errors.Is(err, want) || want == nil && (a.User != "ann" || at.IsZero()) || want != nil && (a.User != "" || !at.IsZero()) {
				t.Errorf("%s: %+v, %v, %v", what, a, at, err)
			}
		}
		is("a stranger", "", ErrVisit)
		half, err := h.Password(t.Context(), "ann", secretSentence, From{Source: desk})
		if err != nil {
			t.Fatal(err)
		}
		is("a password alone", half.Secret, ErrVisit)
		in := h.signIn()
		is("ann", in.Secret, nil)
		is("ann again", in.Secret, nil)
		browser := NewBrowser()
		other, err := h.FinishProvider(t.Context(), "corp", browser, url.Values{"browser": {browser}, "sub": {"1"}, "user": {"bob"}})
		if err != nil {
			t.Fatal(err)
		}
		is("a person of a provider's", other.Secret, ErrVisit)

		ann := h.accounts.byUser["ann"]
		ann.Locked = true
		is("who is locked", in.Secret, ErrLocked)
		ann.Locked = false
		h.accounts.broken = errors.New("the database is away")
		is("without the database", in.Secret, h.accounts.broken)
		h.accounts.broken = nil
		time.Sleep(proofTime - time.Second)
		is("ann, still", in.Secret, nil)
		time.Sleep(time.Second)
		is("ann, late", in.Secret, ErrVisit)

		in = h.signIn()
		ann.ValidFrom = time.Now()
		is("who signed in just now", in.Secret, nil)
		ann.ValidFrom = time.Now().Add(time.Microsecond)
		is("who signed in before the reset", in.Secret, ErrVisit)
		ann.ValidFrom = time.Time{}
		delete(h.accounts.byUser, "ann")
		is("who is gone", in.Secret, ErrVisit)
		h.accounts.byUser["ann"] = ann
		if err := h.SignOut(t.Context(), in.Secret); err != nil {
			t.Fatal(err)
		}
		is("who has left", in.Secret, ErrVisit)
	})
}
