package sshca

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// memory is a Store.
type memory struct {
	keys    []Key
	retires map[int64]time.Time
	now     func() time.Time
}

func (m *memory) Keys(context.Context) (list []Key, _ error) {
	for _, k := range slices.Backward(m.keys) {
		if r := m.retires[k.Serial]; r.IsZero() || r.After(m.now()) {
			list = append(list, k)
		}
	}
	return list, nil
}

func (m *memory) Add(_ context.Context, k Key) error {
	if slices.ContainsFunc(m.keys, func(o Key) bool { return o.Serial == k.Serial }) {
		return ErrConflict
	}
	m.keys = append(m.keys, k)
	return nil
}

func (m *memory) Retire(_ context.Context, serial int64, at time.Time) error {
	m.retires[serial] = at
	return nil
}

func TestAuthority(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	store, seal := &memory{retires: map[int64]time.Time{}, now: clock}, bytes.Repeat([]byte{7}, 32)
	a, err := Open(t.Context(), store, seal, clock)
	if err != nil {
		t.Fatal(err)
	}
	public, _, _ := ed25519.GenerateKey(rand.Reader)
	key, _ := ssh.NewPublicKey(public)
	sign := func() *ssh.Certificate {
		t.Helper()
		c, err := a.Sign(key, Subject{ID: "ann dev-1", Principals: []string{"ann"}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := sign()
	check := ssh.CertChecker{Clock: clock, IsUserAuthority: func(k ssh.PublicKey) bool {
		return slices.ContainsFunc(a.Lines(), func(l string) bool {
			trusted, _, _, _, err := ssh.ParseAuthorizedKey([]byte(l))
			return err == nil && bytes.Equal(trusted.Marshal(), k.Marshal())
		})
	}}
	if err := check.CheckCert("ann", first); err != nil || !check.IsUserAuthority(first.SignatureKey) {
		t.Errorf("the certificate: %v", err)
	}
	if err := check.CheckCert("root", first); err == nil {
		t.Error("ann's certificate is good for root")
	}
	if sign().Serial == first.Serial {
		t.Error("two certificates have one serial")
	}
	if again, err := Open(t.Context(), store, seal, clock); err != nil || again.Lines()[0] != a.Lines()[0] {
		t.Errorf("opened again: %v", err)
	}
	if _, err := Open(t.Context(), store, make([]byte, 32), clock); err == nil || !strings.Contains(err.Error(), "sealed by another key") {
		t.Errorf("with another seal: %v", err)
	}
	if _, err := a.Sign(first, Subject{ID: "x", Principals: []string{"ann"}}); err == nil {
		t.Error("signed a certificate")
	}
	if _, err := a.Sign(key, Subject{ID: "x"}); err == nil {
		t.Error("signed for nobody, which is everybody")
	}

	if _, err := a.Rotate(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	if len(a.Lines()) != 2 || !bytes.Equal(sign().SignatureKey.Marshal(), first.SignatureKey.Marshal()) {
		t.Error("the next key signs before targets have it")
	}
	now = now.Add(time.Hour)
	if bytes.Equal(sign().SignatureKey.Marshal(), first.SignatureKey.Marshal()) {
		t.Error("the next key does not sign after the overlap")
	}
	if err := check.CheckCert("ann", first); err == nil {
		t.Error("a certificate is good after an hour")
	}
	now = now.Add(time.Hour + 1)
	if err := a.Reload(t.Context()); err != nil || len(a.Lines()) != 1 {
		t.Errorf("after two overlaps: %v, %v", a.Lines(), err)
	}
}
