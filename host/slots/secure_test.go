package slots

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// certificate is one, signed by another or by itself.
func certificate(t *testing.T, by *x509.Certificate, byKey *rsa.PrivateKey) (*x509.Certificate, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "db"}, NotAfter: time.Now().Add(time.Hour)}
	if by == nil {
		by, byKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, byKey)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

// list is a signature list of one signature.
func list(kind [16]byte, value []byte) []byte {
	b := append([]byte{}, kind[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(28+16+len(value)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(16+len(value)))
	return append(append(b, make([]byte, 16)...), value...)
}

func TestTrust(t *testing.T) {
	ours, key := certificate(t, nil, nil)
	leaf, _ := certificate(t, ours, key)
	stranger, _ := certificate(t, nil, nil)
	digest := make([]byte, 32)
	digest[0] = 1

	dir := t.TempDir()
	set := func(name string, value []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), append([]byte{7, 0, 0, 0}, value...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	everything := func(when string) {
		t.Helper()
		if trust, err := ReadTrust(dir); err != nil || !trust.Starts(nil, nil) {
			t.Errorf("%s: %+v, %v", when, trust, err)
		}
	}
	everything("no Secure Boot")
	set(secureBoot, []byte{0})
	everything("Secure Boot is off")
	set(secureBoot, []byte{1})
	if _, err := ReadTrust(dir); err == nil {
		t.Error("Secure Boot without a db")
	}
	unknown := [16]byte{1}
	db := append(append(list(unknown, []byte("?")), list(typeX509, ours.Raw)...), list(typeSHA256, digest)...)
	set(database, db)
	trust, err := ReadTrust(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		digest  []byte
		signers []*x509.Certificate
		want    bool
	}{
		"unsigned":             {nil, nil, false},
		"signed by a stranger": {nil, []*x509.Certificate{stranger}, false},
		"signed by ours":       {nil, []*x509.Certificate{stranger, ours}, true},
		"signed by its child":  {nil, []*x509.Certificate{leaf}, true},
		"its digest":           {digest, nil, true},
		"another digest":       {make([]byte, 32), nil, false},
	} {
		if got := trust.Starts(c.digest, c.signers); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	for n := 1; n < len(db); n++ {
		parseTrust(db[:n]) // which must not panic
	}
	set(database, db[:40])
	if _, err := ReadTrust(dir); err == nil {
		t.Error("a db that is cut short")
	}
}
