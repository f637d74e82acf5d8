package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

const (
	freshFor   = time.Hour       // for so long what a provider said is not asked for again
	staleFor   = 24 * time.Hour  // for so long it is used while the provider does not answer
	retryPause = 5 * time.Second // between two questions to a provider that does not answer
	askAgain   = 200 * time.Millisecond
)

// metadata is what a provider says of itself.
type metadata struct {
	provider *oidc.Provider
	fetched  time.Time

	JWKS        string   `json:"jwks_uri"`
	UserInfo    string   `json:"userinfo_endpoint"`
	EndSession  string   `json:"end_session_endpoint"`
	SendsIssuer bool     `json:"authorization_response_iss_parameter_supported"`
	AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
	Challenges  []string `json:"code_challenge_methods_supported"`
}

// A failure is remembered for a moment, so that a thousand people do not wait for one provider one after the other.
type failure struct {
	at  time.Time
	err error
}

// discover returns the metadata: as it was told within the hour, else told now, else told within the day.
func (p *Provider) discover(ctx context.Context) (*metadata, error) {
	if m, err := p.remembered(); m != nil || err != nil {
		return m, err
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, p.down("wait for its metadata", context.Cause(ctx))
	}
	if m, err := p.remembered(); m != nil || err != nil { // whoever had the turn before asked
		return m, err
	}
	m, err := p.ask(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.config.Clock()
	if err == nil {
		m.fetched = now
		p.known, p.failed = m, failure{}
		return m, nil
	}
	if ctx.Err() == nil { // one who gave up says nothing about the provider
		p.failed = failure{now, err}
	}
	if p.known != nil && now.Sub(p.known.fetched) < staleFor {
		return p.known, nil
	}
	return nil, err
}

// remembered returns what need not be asked for; neither, if something has to be.
func (p *Provider) remembered() (*metadata, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.config.Clock()
	resting := p.failed.err != nil && now.Sub(p.failed.at) < retryPause
	switch {
	case p.known != nil && (now.Sub(p.known.fetched) < freshFor || resting && now.Sub(p.known.fetched) < staleFor):
		return p.known, nil
	case resting:
		return nil, p.failed.err
	}
	return nil, nil
}

// ask fetches the metadata, twice if need be.
func (p *Provider) ask(ctx context.Context) (*metadata, error) {
	ctx = oidc.ClientContext(ctx, p.http)
	var provider *oidc.Provider
	err := twice(ctx, func() (err error) {
		provider, err = oidc.NewProvider(ctx, p.config.Issuer)
		return err
	})
	if wrong, ok := errors.AsType[*oidc.IssuerMismatchError](err); ok {
		return nil, p.refuse("its metadata are of issuer %.200q, configured is %q", wrong.Discovered, p.config.Issuer)
	}
	if err != nil {
		return nil, p.down("ask for its metadata", err)
	}
	m := &metadata{provider: provider}
	if err := provider.Claims(m); err != nil {
		return nil, p.refuse("its metadata cannot be read: %.200q", err)
	}
	if err := m.check(); err != nil {
		return nil, p.refuse("its metadata will not do: %v", err)
	}
	if p.config.Reach != nil {
		p.config.Reach(provider.Endpoint().TokenURL, m.JWKS, m.UserInfo)
	}
	return m, nil
}

func (m *metadata) check() error {
	e := m.provider.Endpoint()
	for name, text := range map[string]string{"authorization_endpoint": e.AuthURL, "token_endpoint": e.TokenURL, "jwks_uri": m.JWKS} {
		if err := checkURL(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, text := range map[string]string{"userinfo_endpoint": m.UserInfo, "end_session_endpoint": m.EndSession} {
		if text == "" { // a provider need not have them
			continue
		}
		if err := checkURL(text); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(m.Challenges) > 0 && !slices.Contains(m.Challenges, "S256") {
		return errors.New("it does not offer PKCE with S256")
	}
	return nil
}

// twice repeats a GET that was not answered.
func twice(ctx context.Context, get func() error) error {
	err := get()
	if err == nil || ctx.Err() != nil {
		return err
	}
	if _, wrong := errors.AsType[*oidc.IssuerMismatchError](err); wrong {
		return err
	}
	select {
	case <-time.After(askAgain):
		return get()
	case <-ctx.Done():
		return err
	}
}

// get fetches a document.
func get(ctx context.Context, client *http.Client, address string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	answer, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, fmt.Errorf("it answers %s", answer.Status)
	}
	return answer, nil
}
