package client

import (
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// A keychain that asks somebody who is away holds nobody up, and keeps nothing when they come back.
func TestKeychainInTime(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(nil)
	for store, want := range map[string]time.Duration{KeyAuto: keychainSoon, KeyKeychain: keychainPatience} {
		t.Run(store, func(t *testing.T) {
			home, _ := OpenHome(filepath.Join(t.TempDir(), "home"))
			synctest.Test(t, func(t *testing.T) {
				chain := &FakeKeychain{Wait: func() { time.Sleep(time.Hour) }}
				home := WithKeychain(home, chain)
				p := &Profile{Name: "work"}
				began := time.Now()
				s, err := home.stageKey(t.Context(), p, store, key)
				if took := time.Since(began); took != want {
					t.Errorf("took %v, not %v", took, want)
				}
				if store == KeyAuto {
					if err != nil || p.KeyStore != "" || s.commit() != nil {
						t.Errorf("got %v, %+v", err, p)
					}
					if _, err := os.Stat(home.keyFile("work")); err != nil {
						t.Error(err)
					}
				} else if f := Explain(err); f.Exit() != 10 || s != nil {
					t.Errorf("got %+v, %v", f, s)
				}
				began = time.Now()
				if _, err := home.key(&Profile{Name: "work", KeyStore: KeyKeychain}); Explain(err).Exit() != 10 || time.Since(began) != keychainPatience {
					t.Errorf("after %v: %v", time.Since(began), err)
				}
				time.Sleep(5 * time.Hour)
				if left := chain.Accounts(); len(left) > 0 {
					t.Errorf("left: %q", left)
				}
			})
		})
	}
}

func TestKeychainInterrupted(t *testing.T) {
	_, key, _ := ed25519.GenerateKey(nil)
	home, _ := OpenHome(filepath.Join(t.TempDir(), "home"))
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errors.New("interrupted")) })
		home := WithKeychain(home, &FakeKeychain{Wait: func() { time.Sleep(time.Hour) }})
		for _, store := range []string{KeyAuto, KeyKeychain} {
			if s, err := home.stageKey(ctx, &Profile{Name: "work"}, store, key); err == nil || err.Error() != "interrupted" || s != nil {
				t.Errorf("%s: got %v, %v", store, s, err)
			}
		}
		time.Sleep(5 * time.Hour)
	})
}
