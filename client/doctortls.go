package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"time"
)

// expiresSoon is when a certificate's end is worth a word.
const expiresSoon = 7 * 24 * time.Hour

// judge says what is to be thought of the certificate that what answers has shown: its chain, its dates, its names,
// and whether it is the one that this device trusts.
func (d *Doctor) judge(ctx context.Context, state *tls.ConnectionState) Finding {
	leaf := state.PeerCertificates[0]
	trust := &d.profile.Trust
	if err := verify(trust, d.profile.Address, state); err != nil {
		return fault("tls", trust.explain(ctx, d.profile.Address, err))
	}
	by := "by the system's roots"
	switch trust.Kind {
	case TrustCA:
		by = "by this appliance's own roots"
	case TrustPin:
		by = "by its pinned key"
	}
	f := Finding{Check: "tls", Verdict: Good, Text: fmt.Sprintf("certificate from %s, trusted %s, until %s, %s",
		issuer(leaf), by, stamp(leaf.NotAfter), fingerprint(leaf))}
	if left := time.Until(leaf.NotAfter); left < expiresSoon && trust.Kind != TrustPin {
		f.Verdict, f.Hint = Note, fmt.Sprintf("it expires in %s; an administrator should renew it", left.Round(time.Minute))
	}
	return f
}

func issuer(c *x509.Certificate) string {
	if c.Subject.String() == c.Issuer.String() {
		return "itself"
	}
	if c.Issuer.CommonName != "" {
		return c.Issuer.CommonName
	}
	return strings.Join(c.Issuer.Organization, " ")
}

// verify does what crypto/tls does where it is not told to look away.
func verify(trust *Trust, address string, state *tls.ConnectionState) error {
	config := trust.config(address)
	if config.VerifyConnection != nil {
		return config.VerifyConnection(*state)
	}
	name := config.ServerName
	if name == "" {
		name, _, _ = net.SplitHostPort(address)
	}
	options := x509.VerifyOptions{Roots: config.RootCAs, DNSName: name, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := state.PeerCertificates[0].Verify(options); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: state.PeerCertificates, Err: err}
	}
	return nil
}
