package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"sallyport/appliance/config"
)

// acmeProtocol is how a certificate authority asks, on the appliance's own port, whether the name is ours (RFC 8737).
const acmeProtocol = "acme-tls/1"

// acme keeps certificates that an authority makes: asks for them, renews them, and answers the authority's questions
// on the public port. Nothing else is opened: the worker may not, and need not.
type acme struct {
	cache     *certmagic.Cache
	magic     *certmagic.Config
	authority *authority
	domains   []string
}

func newACME(c config.ACME, state string, roots []byte, out *uplink, log *slog.Logger) (*acme, error) {
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
		OCSP:              certmagic.OCSPConfig{DisableStapling: out != nil}, // it would go by the kernel
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
	transport := out.transport()
	if roots != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(roots) {
			a.cache.Stop()
			return nil, fmt.Errorf("tls.acme.ca %s holds no PEM certificate", c.CA)
		}
	}
	a.authority = &authority{
		directory: c.Directory, email: c.Email, storage: a.magic.Storage, out: out, answers: map[string]*tls.Certificate{},
		http: &http.Client{Transport: transport, Timeout: requestTimeout},
	}
	if c.Directory == "" || c.Directory == certmagic.LetsEncryptProductionCA {
		a.authority.directory, a.authority.rehearsal = certmagic.LetsEncryptProductionCA, certmagic.LetsEncryptStagingCA
	}
	a.magic.Issuers = []certmagic.Issuer{a.authority}
	return a, nil
}

// requestTimeout is for one request to an authority with its answer.
const requestTimeout = time.Minute

// manage begins to obtain and renew, in the background until ctx ends.
func (a *acme) manage(ctx context.Context) error { return a.magic.ManageAsync(ctx, a.domains) }

func (a *acme) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acmeProtocol {
		return a.authority.answer(strings.ToLower(hello.ServerName))
	}
	return a.magic.GetCertificate(hello)
}

// has says whether there is a certificate for the name.
func (a *acme) has(name string) bool { return len(a.cache.AllMatchingCertificates(name)) > 0 }

func (a *acme) Close() {
	a.cache.Stop()
	a.authority.http.CloseIdleConnections()
}
