package appliance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/appliance/audit"
	"sallyport/appliance/hostkey"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// An issuer makes certificates.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{t: t, key: key}
	i.cert = &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	i.cert = i.sign(i.cert, key)
	return i
}

func (i *issuer) sign(c *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	i.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, i.cert, key.Public(), i.key)
	if err != nil {
		i.t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	return signed
}

// server is a certificate for a name.
func (i *issuer) server(name string, until time.Time) *x509.Certificate {
	return i.sign(&x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotAfter: until}, i.key)
}

func (i *issuer) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}))
}

func TestCertificateOfDesktop(t *testing.T) {
	s := newSite(t)
	ours, theirs := newIssuer(t), newIssuer(t)
	later := time.Now().Add(time.Hour)
	good := ours.server("win-1.corp.example", later)
	sum := sha256.Sum256(good.Raw)
	pinned := policy.Desktop{Certificates: []string{hex.EncodeToString(sum[:])}}
	for _, c := range []struct {
		name string
		d    policy.Desktop
		cert *x509.Certificate
		want string // of the refusal's sentence; empty: there is none
	}{
		{"written down", pinned, good, ""},
		{"another than is written down", pinned, theirs.cert, "shows another certificate than it is known by"},
		{"by the authority, for the address", policy.Desktop{CA: ours.pem()}, good, ""},
		{"by the authority, for the name", policy.Desktop{CA: ours.pem()}, ours.server("win-1", later), ""},
		{"by the authority, for another", policy.Desktop{CA: ours.pem()}, ours.server("win-2", later), "the certificate of win-1 does not count"},
		{"by the authority, too old", policy.Desktop{CA: ours.pem()}, ours.server("win-1", time.Now().Add(-time.Minute)), "the certificate of win-1 does not count"},
		{"by another", policy.Desktop{CA: ours.pem()}, theirs.server("win-1", later), "the certificate of win-1 does not count"},
		{"where nothing can be kept", policy.Desktop{}, good, "this appliance keeps no certificates"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := strings.Count(s.book.kinds(), audit.TargetIdentity)
			f := &flow{gateway: s.Gateway, peer: s.peer, life: t.Context(), grant: policy.Grant{Target: "win-1", Host: "win-1.corp.example", Protocol: policy.RDP, Desktop: c.d}}
			err := f.checkCertificate([]*x509.Certificate{c.cert})
			reason, _ := frame.ReasonOf(err)
			switch written := strings.Count(s.book.kinds(), audit.TargetIdentity) - before; {
			case c.want == "" && err != nil, c.want != "" && (reason.Code != "E_TARGET_IDENTITY" || !strings.Contains(reason.Sentence, c.want)):
				t.Errorf("%v", err)
			case (written == 1) != (c.want != "" && s.known(c.d)):
				t.Errorf("%d events are written down", written)
			}
		})
	}
}

// known says whether there is something that a target could fail to show.
func (s *site) known(d policy.Desktop) bool { return d.CA != "" || len(d.Certificates) > 0 }

// TestCertificateBesideHostKey: a target's certificate and its SSH host key are pinned each by itself.
func TestCertificateBesideHostKey(t *testing.T) {
	s := newSite(t)
	pins, err := hostkey.Open(t.Context(), new(fewPins), false, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s.HostKeys = pins
	sshKey := ssh.Marshal(struct{ Name, Key string }{"ssh-ed25519", strings.Repeat("k", 32)})
	i := newIssuer(t)
	f := &flow{gateway: s.Gateway, peer: s.peer, life: t.Context(), grant: policy.Grant{Target: "win-1", Protocol: policy.RDP}}
	if err := f.checkKey(sshKey); err != nil {
		t.Fatal(err)
	}
	first := i.server("win-1", time.Now().Add(time.Hour))
	for range 2 {
		if err := f.checkCertificate([]*x509.Certificate{first}); err != nil {
			t.Fatal(err)
		}
	}
	reason, _ := frame.ReasonOf(f.checkCertificate([]*x509.Certificate{i.cert}))
	if reason.Code != "E_TARGET_IDENTITY" || !strings.Contains(reason.Hint, "sallyport admin hostkeys confirm rdp:win-1 "+hostkey.Fingerprint(i.cert.Raw)) {
		t.Errorf("another certificate: %+v", reason)
	}
	if err := f.checkCertificate(nil); err == nil {
		t.Error("a target without a certificate is believed")
	}
	if err := f.checkKey(sshKey); err != nil {
		t.Error(err)
	}
}
