package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"sallyport/appliance/config"
)

// acmeProtocol is how a certificate authority asks, on the appliance's own port, whether the name is ours (RFC 8737).
const acmeProtocol = "acme-tls/1"

// acme keeps certificates that an authority makes: asks for them, renews them, and answers the authority's questions
// on the public port. Nothing else is opened: the worker may not, and need not.
type acme struct {
	cache   *certmagic.Cache
	magic   *certmagic.Config
	domains []string
}

func newACME(c config.ACME, state string, roots []byte, log *slog.Logger) (*acme, error) {
	a := &acme{domains: c.Domains}
	silent := zap.NewNop() // events say what an operator wants to know
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: func(certmagic.Certificate) (*certmagic.Config, error) { return a.magic, nil },
		Logger:           silent,
	})
	a.magic = certmagic.New(a.cache, certmagic.Config{
		Storage:           &certmagic.FileStorage{Path: filepath.Join(state, "acme")},
		DefaultServerName: c.Domains[0], // for clients that connect by address
		Logger:            silent,
		OnEvent: func(_ context.Context, event string, data map[string]any) error {
			switch event {
			case "cert_obtained":
				log.Info("certificate obtained", "name", data["identifier"], "renewal", data["renewal"])
			case "cert_failed":
				log.Error("certificate not obtained; it is tried again", "name", data["identifier"], "cause", data["error"])
			}
			return nil
		},
	})
	issuer := certmagic.ACMEIssuer{
		CA: c.Directory, Email: c.Email, Agreed: true, Logger: silent,
		DisableHTTPChallenge:      true,
		DisableDistributedSolvers: true,
		// The library wants to see a port open while it solves a challenge; the real one is served by the transport.
		ListenHost: "127.0.0.1", AltTLSALPNPort: unusedPort,
	}
	if roots != nil {
		issuer.TrustedRoots = x509.NewCertPool()
		if !issuer.TrustedRoots.AppendCertsFromPEM(roots) {
			a.cache.Stop()
			return nil, fmt.Errorf("tls.acme.ca %s holds no PEM certificate", c.CA)
		}
	}
	a.magic.Issuers = []certmagic.Issuer{certmagic.NewACMEIssuer(a.magic, issuer)}
	return a, nil
}

// unusedPort is on loopback; nobody is told of it.
const unusedPort = 44317

// manage begins to obtain and renew, in the background until ctx ends.
func (a *acme) manage(ctx context.Context) error { return a.magic.ManageAsync(ctx, a.domains) }

func (a *acme) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.magic.GetCertificate(hello)
}

func (a *acme) Close() { a.cache.Stop() }
