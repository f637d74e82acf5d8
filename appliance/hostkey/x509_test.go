package hostkey

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

func x509For(t *testing.T, serial int64) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestCertificates(t *testing.T) {
	ctx := context.Background()
	first, second := x509For(t, 1), x509For(t, 2)
	p, err := Open(ctx, new(memory), false, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Check(ctx, "rdp:win-1", first); err != nil {
			t.Fatal(err)
		}
	}
	sum := sha256.Sum256(second)
	fingerprint := "sha256:" + hex.EncodeToString(sum[:])
	var other *MismatchError
	if err := p.Check(ctx, "rdp:win-1", second); !errors.As(err, &other) || other.Shown != fingerprint {
		t.Fatalf("another certificate: %v", err)
	}
	if err := p.Confirm(ctx, "rdp:win-1", fingerprint, "root"); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(ctx, "rdp:win-1", second); err != nil {
		t.Errorf("a certificate that was confirmed: %v", err)
	}
	if list := p.List("rdp:win-1"); len(list) != 1 || list[0].Algorithm != "x509" || !strings.HasPrefix(list[0].Line(), "x509 MI") {
		t.Errorf("pinned are %+v", list)
	}
	if err := CheckFixedX509("win-1", second, []string{strings.TrimPrefix(fingerprint, "sha256:")}); err != nil {
		t.Error(err)
	}
	if err := CheckFixedX509("win-1", first, []string{strings.TrimPrefix(fingerprint, "sha256:")}); !errors.As(err, &other) {
		t.Errorf("another certificate than is written down: %v", err)
	}
}
