package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestIdentityIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	first, err := OpenIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenIdentity(dir)
	if err != nil || !bytes.Equal(first.Public(), again.Public()) {
		t.Errorf("another key: %v", err)
	}
	if sig := again.Sign([]byte("hello")); !ed25519.Verify(first.Public(), []byte("hello"), sig) {
		t.Error("the signature does not verify")
	}
	if len(first.Successors()) != 0 {
		t.Error("there is a successor")
	}
	if info, err := os.Stat(filepath.Join(dir, "identity.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestParseIdentity(t *testing.T) {
	dir := t.TempDir()
	made, err := OpenIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "identity.key"))
	if err != nil {
		t.Fatal(err)
	}
	if read, err := ParseIdentity(data); err != nil || !read.Public().Equal(made.Public()) {
		t.Errorf("another key: %v", err)
	}
	if _, err := SelfSigned(dir, []string{"a"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(dir, "tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, data[:len(data)-9], append(data, data...), other} {
		if i, err := ParseIdentity(bad); i != nil || err == nil {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

func TestIdentityRefusesABadKeyFile(t *testing.T) {
	tests := []struct {
		what   string
		change func(path string) error
		want   string
	}{
		{"readable by others", func(path string) error { return os.Chmod(path, 0o640) }, "can be read by others (mode 0640)"},
		{"empty", func(path string) error { return os.WriteFile(path, nil, 0o600) }, "not one PEM block"},
		{"garbage", func(path string) error {
			return os.WriteFile(path, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600)
		}, "asn1"},
		{"of another kind", func(path string) error {
			if _, err := SelfSigned(filepath.Dir(path), []string{"a"}, time.Now()); err != nil {
				return err
			}
			return os.Rename(filepath.Join(filepath.Dir(path), "tls.key"), path)
		}, "not Ed25519"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "identity.key")
			if _, err := OpenIdentity(dir); err != nil {
				t.Fatal(err)
			}
			if err := tt.change(path); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenIdentity(dir); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	dir := t.TempDir()
	if _, err := OpenIdentity(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "identity.key"), 0o604); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenIdentity(dir); !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
}

func TestSelfSigned(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	names := []string{"bastion.example", "192.0.2.1", "2001:db8::1"}
	get := func(names []string, now time.Time) *x509.Certificate {
		t.Helper()
		c, err := SelfSigned(dir, names, now)
		if err != nil {
			t.Fatal(err)
		}
		if key, ok := c.PrivateKey.(*ecdsa.PrivateKey); !ok || !key.PublicKey.Equal(c.Leaf.PublicKey) {
			t.Fatal("key and certificate do not fit together")
		}
		return c.Leaf
	}
	first := get(names, now)
	roots := x509.NewCertPool()
	roots.AddCert(first)
	for _, name := range []string{"bastion.example", "192.0.2.1", "2001:db8::1"} {
		if _, err := first.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: now}); err != nil {
			t.Error(err)
		}
	}
	if got := get(names, now.Add(300*24*time.Hour)); !got.Equal(first) {
		t.Error("the certificate is made anew long before its end")
	}
	later := get(names, now.Add(340*24*time.Hour))
	if later.Equal(first) || !later.NotAfter.After(first.NotAfter) {
		t.Error("the certificate is not renewed before its end")
	}
	renamed := get([]string{"other.example"}, now)
	if renamed.VerifyHostname("other.example") != nil {
		t.Error("the certificate does not follow the names")
	}
	if err := os.WriteFile(filepath.Join(dir, "tls.crt"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	mended := get(names, now)
	for what, c := range map[string]*x509.Certificate{"renewed": later, "renamed": renamed, "mended": mended} {
		if Fingerprint(c) != Fingerprint(first) || len(Fingerprint(c)) != 64 {
			t.Errorf("the fingerprint of the %s certificate is another", what)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "tls.key"), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := SelfSigned(dir, names, now); err == nil || !strings.Contains(err.Error(), "tls.key") {
		t.Errorf("a broken key is replaced in silence: %v", err)
	}
	if _, err := SelfSigned(dir, nil, now); err == nil {
		t.Error("a certificate for nobody")
	}
}
