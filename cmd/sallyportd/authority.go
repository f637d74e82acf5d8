package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"sync"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	rfc8555 "github.com/mholt/acmez/v3/acme"
)

// An authority signs certificates by ACME (RFC 8555). It is an issuer of certmagic, which knows when a certificate is
// wanted and tries again; certmagic's own issuer cannot be given a way out.
type authority struct {
	directory string
	rehearsal string // the directory that a try after a failed one begins with, to spare the other's limits; or empty
	email     string
	storage   certmagic.Storage // of the account's key
	out       *uplink
	http      *http.Client

	mu      sync.Mutex
	answers map[string]*tls.Certificate // to the authority's open questions, by the name that they are about
}

// IssuerKey implements certmagic.Issuer.
func (a *authority) IssuerKey() string {
	return (&certmagic.ACMEIssuer{CA: a.directory}).IssuerKey()
}

// Issue implements certmagic.Issuer.
func (a *authority) Issue(ctx context.Context, request *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	if tries, _ := ctx.Value(certmagic.AttemptsCtxKey).(*int); tries != nil && *tries > 0 && a.rehearsal != "" {
		if _, err := a.order(ctx, a.rehearsal, request); err != nil {
			return nil, err
		}
	}
	return a.order(ctx, a.directory, request)
}

// order has one certificate made by the authority whose directory is given.
func (a *authority) order(ctx context.Context, directory string, request *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	client, err := a.reach(ctx, directory)
	if err != nil {
		return nil, err
	}
	account, err := a.account(ctx, client)
	if err != nil {
		return nil, err
	}
	order, err := acmez.OrderParametersFromCSR(account, request)
	if err != nil {
		return nil, err
	}
	solving := acmez.Client{Client: client, ChallengeSolvers: map[string]acmez.Solver{rfc8555.ChallengeTypeTLSALPN01: a}}
	chains, err := solving.ObtainCertificate(ctx, order)
	if err != nil {
		return nil, fmt.Errorf("order at %s: %w", directory, err)
	}
	if len(chains) == 0 {
		return nil, fmt.Errorf("order at %s: no certificate came", directory)
	}
	return &certmagic.IssuedCertificate{Certificate: chains[0].ChainPEM, Metadata: chains[0]}, nil
}

// reach is a client of the authority whose directory is given. The way leads to the directory's host and to those that it
// names.
func (a *authority) reach(ctx context.Context, directory string) (*rfc8555.Client, error) {
	client := &rfc8555.Client{Directory: directory, HTTPClient: a.http, UserAgent: software()}
	a.out.allow(directory)
	dir, err := client.GetDirectory(ctx)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", directory, err)
	}
	a.out.allow(dir.NewNonce, dir.NewAccount, dir.NewOrder, dir.RenewalInfo)
	return client, nil
}

// account is ours at the authority, made if there is none: who comes with a key that it knows has an account there.
func (a *authority) account(ctx context.Context, client *rfc8555.Client) (rfc8555.Account, error) {
	owner := "nobody"
	account := rfc8555.Account{TermsOfServiceAgreed: true}
	if a.email != "" {
		owner = a.email
		account.Contact = []string{"mailto:" + a.email}
	}
	issuer := (&certmagic.ACMEIssuer{CA: client.Directory}).IssuerKey()
	where := path.Join("acme", certmagic.StorageKeys.Safe(issuer), "accounts", certmagic.StorageKeys.Safe(owner)+".key")
	var err error
	if account.PrivateKey, err = a.key(ctx, where); err != nil {
		return account, fmt.Errorf("the key of the account: %w", err)
	}
	if account, err = client.NewAccount(ctx, account); err != nil {
		return account, fmt.Errorf("account at %s: %w", client.Directory, err)
	}
	return account, nil
}

// key reads a key, or makes one.
func (a *authority) key(ctx context.Context, where string) (crypto.Signer, error) {
	a.mu.Lock() // of two domains at the start, one makes it
	defer a.mu.Unlock()
	data, err := a.storage.Load(ctx, where)
	if err == nil {
		return certmagic.PEMDecodePrivateKey(data)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if data, err = certmagic.PEMEncodePrivateKey(key); err != nil {
		return nil, err
	}
	return key, a.storage.Store(ctx, where, data)
}

// GetRenewalInfo implements certmagic.RenewalInfoGetter: when the authority would like a certificate renewed (RFC 9773).
func (a *authority) GetRenewalInfo(ctx context.Context, cert certmagic.Certificate) (rfc8555.RenewalInfo, error) {
	client, err := a.reach(ctx, a.directory)
	if err != nil {
		return rfc8555.RenewalInfo{}, err
	}
	return client.GetRenewalInfo(ctx, cert.Leaf)
}

// Present implements acmez.Solver: from now on the authority's question is answered on the public port.
func (a *authority) Present(_ context.Context, question rfc8555.Challenge) error {
	answer, err := acmez.TLSALPN01ChallengeCert(question)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers[question.Identifier.Value] = answer
	return nil
}

// CleanUp implements acmez.Solver.
func (a *authority) CleanUp(_ context.Context, question rfc8555.Challenge) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.answers, question.Identifier.Value)
	return nil
}

// answer is for who asks by acmeProtocol.
func (a *authority) answer(name string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.answers[name]; c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("no authority was asked about %q", name)
}
