package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"sallyport/frame"
	"sallyport/transport"
)

// A Trust is how an appliance's certificate is verified.
type Trust struct {
	Kind       string `json:"kind"`                  // TrustSystem, TrustCA or TrustPin
	CA         string `json:"ca,omitempty"`          // PEM certificates, with TrustCA
	Pin        string `json:"spki_sha256,omitempty"` // of the public key, in hexadecimal, with TrustPin
	ServerName string `json:"server_name,omitempty"` // that the certificate must name; default: the address's host
}

// The kinds of Trust.
const (
	TrustSystem = "system" // by the system's roots
	TrustCA     = "ca"     // by roots of its own
	TrustPin    = "pin"    // by its public key, whatever it says of names and dates
)

// ParseFingerprint reads SHA-256 of a public key in hexadecimal, as people copy it.
func ParseFingerprint(s string) (string, error) {
	digits := strings.ToLower(strings.TrimSpace(s))
	digits = strings.ReplaceAll(strings.TrimPrefix(digits, "sha256:"), ":", "")
	if b, err := hex.DecodeString(digits); err != nil || len(b) != 32 {
		return "", frame.Refuse("E_USAGE", fmt.Sprintf("%q is not a fingerprint", frame.Clip(s, 100)),
			"it is the SHA-256 of the certificate's public key: 64 hexadecimal digits")
	}
	return digits, nil
}

func (t *Trust) check() error {
	switch t.Kind {
	case TrustSystem:
	case TrustCA:
		if !x509.NewCertPool().AppendCertsFromPEM([]byte(t.CA)) {
			return errors.New("the ca of an appliance holds no certificate")
		}
	case TrustPin:
		if _, err := ParseFingerprint(t.Pin); err != nil {
			return err
		}
	default:
		return fmt.Errorf("trust %q is not known", frame.Clip(t.Kind, 32))
	}
	return nil
}

// config verifies as t says; address is for messages.
func (t *Trust) config(address string) *tls.Config {
	config := &tls.Config{ServerName: t.ServerName}
	switch t.Kind {
	case TrustCA:
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM([]byte(t.CA))
	case TrustPin:
		want, _ := hex.DecodeString(t.Pin)
		config.InsecureSkipVerify = true // VerifyConnection decides, by the key alone
		config.VerifyConnection = func(state tls.ConnectionState) error {
			if leaf := state.PeerCertificates[0]; !bytes.Equal(transport.SPKI(leaf), want) {
				return certificateError(fmt.Sprintf("%s shows a certificate with another key than the pinned one: %s", address, fingerprint(leaf)),
					"if the appliance has a new certificate, its administrator can tell you the new fingerprint; log in again with --fingerprint; if it has not, this network decrypts TLS")
			}
			return nil
		}
	}
	return config
}

func fingerprint(c *x509.Certificate) string {
	return "sha256:" + hex.EncodeToString(transport.SPKI(c))
}

func certificateError(sentence, hint string) error {
	return &frame.SessionError{Reason: frame.Reason{Code: "E_APPLIANCE_CERT", Sentence: sentence, Hint: hint}}
}

// explain turns a certificate that did not verify into what the person is told; other errors stay as they are.
func (t *Trust) explain(ctx context.Context, address string, err error) error {
	var failed *tls.CertificateVerificationError
	if !errors.As(err, &failed) || len(failed.UnverifiedCertificates) == 0 {
		return err
	}
	leaf := failed.UnverifiedCertificates[0]
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	switch {
	case errors.As(failed.Err, &invalid) && invalid.Reason == x509.Expired:
		return t.explainDates(ctx, address, leaf)
	case errors.As(failed.Err, &name):
		return certificateError(fmt.Sprintf("the certificate of %s is for other names: %s", address, frame.Clip(strings.Join(leaf.DNSNames, ", "), 200)),
			"check the URL; if it is right, an administrator must give the appliance a certificate for this name")
	}
	return certificateError(fmt.Sprintf("the certificate of %s is not known; its fingerprint is %s", address, fingerprint(leaf)),
		"compare it with the one that the appliance's administrator sees; only if they are equal, log in with --fingerprint and that value, or with --ca FILE")
}

// explainDates decides who is wrong about the date: the certificate or this computer. The appliance's clock, which
// anybody could play here, only chooses the sentence.
func (t *Trust) explainDates(ctx context.Context, address string, leaf *x509.Certificate) error {
	now := time.Now()
	theirs, err := clockOf(ctx, address)
	valid := func(at time.Time) bool { return !at.Before(leaf.NotBefore) && !at.After(leaf.NotAfter) }
	if err == nil && valid(theirs) || err != nil && now.Before(leaf.NotBefore) {
		sentence := fmt.Sprintf("this computer's clock says %s, when the certificate of %s was not valid yet", stamp(now), address)
		if err == nil {
			sentence = fmt.Sprintf("this computer's clock differs by %s: it says %s, %s says %s",
				spoken(theirs.Sub(now).Abs()), stamp(now), address, stamp(theirs))
		}
		return &frame.SessionError{Reason: frame.Reason{Code: "E_CLOCK", Sentence: sentence, Hint: "set the clock and try again"}}
	}
	if now.Before(leaf.NotBefore) {
		return certificateError(fmt.Sprintf("the certificate of %s is valid only from %s; it is %s now", address, stamp(leaf.NotBefore), stamp(now)),
			"an administrator must check the appliance's certificate and clock")
	}
	return certificateError(fmt.Sprintf("the certificate of %s expired at %s; it is %s now", address, stamp(leaf.NotAfter), stamp(now)),
		"an administrator must renew the appliance's certificate")
}

// spoken is a time as people say it, to the minute.
func spoken(d time.Duration) string {
	minutes := int(d.Round(time.Minute).Minutes())
	switch hours := minutes / 60; {
	case hours == 0:
		return fmt.Sprintf("%d min", minutes)
	case minutes%60 == 0:
		return fmt.Sprintf("%d h", hours)
	default:
		return fmt.Sprintf("%d h %d min", hours, minutes%60)
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// clockOf asks what answers at address for its time, and believes no more than that.
func clockOf(ctx context.Context, address string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return time.Time{}, err
	}
	t := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: host},
		DisableKeepAlives: true,
	}
	defer t.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, "https://"+address+"/", nil)
	if err != nil {
		return time.Time{}, err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return time.Time{}, err
	}
	resp.Body.Close()
	return http.ParseTime(resp.Header.Get("Date"))
}
