package appliance

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"sallyport/appliance/audit"
	"sallyport/appliance/hostkey"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// certificatePrefix begins the name that the certificate of a target's RDP server is pinned under: a target may have SSH,
// too. No target's name has a colon.
const certificatePrefix = "rdp:"

// CheckCertificate says why the program may not go on with an RDP server that shows these certificates, its own first. A
// target that nothing is known of, and that nothing can be written down of, is not trusted.
func (s *Session) CheckCertificate(chain []*x509.Certificate) error {
	return s.flow.checkCertificate(chain)
}

// KnowsCertificate says whether there is something that the target's certificate is compared with. Without, the first is
// taken, and expected from then on.
func (s *Session) KnowsCertificate() bool {
	d, pins := s.flow.grant.Desktop, s.flow.gateway.HostKeys
	return d.CA != "" || len(d.Certificates) > 0 || pins == nil || len(pins.Of(certificatePrefix+s.flow.pinName())) > 0
}

func (f *flow) checkCertificate(chain []*x509.Certificate) error {
	d, target := f.grant.Desktop, f.grant.Target
	if len(chain) == 0 || len(chain[0].Raw) > hostkey.MaxX509 {
		return frame.Refuse("E_TARGET_IDENTITY", target+" shows no certificate that could be compared", "look at the certificate of its RDP server")
	}
	leaf, name := chain[0].Raw, certificatePrefix+f.pinName()
	var err error
	switch {
	case d.CA != "":
		return f.checkCertified(chain, d.CA)
	case len(d.Certificates) > 0:
		err = hostkey.CheckFixedX509(target, leaf, d.Certificates)
	case f.gateway.HostKeys == nil:
		return frame.Refuse("E_TARGET_IDENTITY", fmt.Sprintf("this appliance keeps no certificates, and the policy names none of %s", target), "an administrator can write rdp.certificate in the access file")
	default:
		ctx, cancel := context.WithTimeout(f.life, pinLimit)
		defer cancel()
		err = f.gateway.HostKeys.Check(ctx, name, leaf)
	}
	var other *hostkey.MismatchError
	confirm := "sallyport admin hostkeys confirm " + name + " " + hostkey.Fingerprint(leaf)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &other):
		hint := "nothing was sent to it; if the change is meant, an administrator runs: " + confirm
		if len(d.Certificates) > 0 {
			hint = "nothing was sent to it; if the change is meant, an administrator corrects rdp.certificate in the access file"
		}
		f.recordIdentity(err, *other)
		return frame.Refuse("E_TARGET_IDENTITY", fmt.Sprintf("%s shows another certificate than it is known by: %s, and not %s", target, other.Shown, strings.Join(other.Known, " or ")), hint)
	case errors.Is(err, hostkey.ErrUnconfirmed):
		return frame.Refuse("E_TARGET_IDENTITY", fmt.Sprintf("nobody has confirmed the certificate of %s yet, %s", target, hostkey.Fingerprint(leaf)),
			"ask an administrator to run: "+confirm)
	}
	f.log(slog.LevelError, "certificate not pinned", "cause", err)
	return frame.Refuse("E_CONTROL_DOWN", "the appliance cannot write down by which certificate it knows "+target, "try again in a moment; its log says more")
}

// checkCertified wants a certificate for the target's address or its name, by one of the authorities in PEM.
func (f *flow) checkCertified(chain []*x509.Certificate, authorities string) error {
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: time.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}} // Windows has a usage of its own for RDP
	o.Roots.AppendCertsFromPEM([]byte(authorities))
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	var err error
	for _, o.DNSName = range []string{f.grant.Host, f.grant.Target} {
		if _, err = chain[0].Verify(o); err == nil {
			return nil
		}
	}
	shown := hostkey.Fingerprint(chain[0].Raw)
	f.recordIdentity(err, hostkey.MismatchError{Shown: shown, Known: []string{"a certificate by rdp.ca"}})
	return frame.Refuse("E_TARGET_IDENTITY", fmt.Sprintf("the certificate of %s does not count: %v", f.grant.Target, err),
		"nothing was sent to it; give it a certificate for its address or its name by an authority in rdp.ca of the access file")
}

// recordIdentity writes that a server is not the one it should be.
func (f *flow) recordIdentity(why error, m hostkey.MismatchError) {
	known := strings.Join(m.Known, " or ")
	e := f.event(audit.TargetIdentity)
	e.Code, e.Why = "E_TARGET_IDENTITY", why.Error()
	e.Detail = map[string]string{"shown": m.Shown, "known": known}
	f.gateway.recordOf(f.peer.User, e)
	f.log(slog.LevelWarn, "target shows another identity", "shown", m.Shown, "known", known, "why", why)
}

// credSSP says who proves a password to a target that has desktops.
func credSSP(t policy.Target) string {
	if !slices.ContainsFunc(t.Offers, func(o policy.Offer) bool { return o.Protocol == policy.RDP }) {
		return ""
	}
	return cmp.Or(t.Desktop.CredSSP, "appliance")
}
