package auth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"time"
)

const (
	certLife  = 397 * 24 * time.Hour // what browsers take at most
	certRenew = 60 * 24 * time.Hour  // before its end
)

// SelfSigned returns a TLS certificate for names (DNS names and IP addresses) that its own key signed. Key and
// certificate are kept in the state folder as tls.key and tls.crt. The key stays for ever, so that the fingerprint
// that clients pin does too; the certificate is made anew for other names and 60 days before it ends. Call it again
// each day to have that happen.
func SelfSigned(dir string, names []string, now time.Time) (tls.Certificate, error) {
	if len(names) == 0 {
		return tls.Certificate{}, fmt.Errorf("a certificate needs a name")
	}
	if err := makeFolder(dir); err != nil {
		return tls.Certificate{}, err
	}
	keyPath, certPath := filepath.Join(dir, "tls.key"), filepath.Join(dir, "tls.crt")
	any, err := openKey(keyPath, func() (any, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })
	if err != nil {
		return tls.Certificate{}, err
	}
	key, ok := any.(*ecdsa.PrivateKey)
	if !ok {
		return tls.Certificate{}, fmt.Errorf("%s holds a key that is not ECDSA", keyPath)
	}
	// A certificate that cannot be read is made again: nobody pins it.
	if data, err := readFile(certPath); err == nil {
		if block, _ := pem.Decode(data); block != nil {
			leaf, err := x509.ParseCertificate(block.Bytes)
			if err == nil && key.PublicKey.Equal(leaf.PublicKey) && covers(leaf, names) && isCurrent(leaf, now) {
				return tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key, Leaf: leaf}, nil
			}
		}
	}
	der, err := sign(key, names, now)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := replaceFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})); err != nil {
		return tls.Certificate{}, fmt.Errorf("make %s: %w", certPath, err)
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// SelfSignedOnce is SelfSigned for a process that keeps nothing: key and certificate are made anew.
func SelfSignedOnce(names []string, now time.Time) (tls.Certificate, error) {
	if len(names) == 0 {
		return tls.Certificate{}, fmt.Errorf("a certificate needs a name")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	der, err := sign(key, names, now)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

func sign(key *ecdsa.PrivateKey, names []string, now time.Time) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: names[0]},
		NotBefore:    now.Add(-time.Hour), // for clocks that are behind
		NotAfter:     now.Add(certLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},

		BasicConstraintsValid: true,
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
}

// covers reports whether the certificate is for exactly these names.
func covers(leaf *x509.Certificate, names []string) bool {
	have := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		have = append(have, ip.String())
	}
	var want []string
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			name = ip.String()
		}
		want = append(want, name)
	}
	slices.Sort(have)
	slices.Sort(want)
	return slices.Equal(have, want)
}

func isCurrent(leaf *x509.Certificate, now time.Time) bool {
	return now.After(leaf.NotBefore) && now.Before(leaf.NotAfter.Add(-certRenew))
}

// Fingerprint returns the SHA-256 of a certificate's public key (its SPKI) in hexadecimal: what clients pin.
func Fingerprint(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}
