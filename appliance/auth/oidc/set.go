package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"sallyport/appliance/auth"
	"sallyport/appliance/auth/pending"
)

// ErrUnknown is the answer to the name of a provider that is not configured.
var ErrUnknown = &auth.Error{Code: "E_LOGIN_PROVIDER_NAME", Sentence: "no identity provider has this name here"}

// A Set is the providers of an appliance.
type Set struct {
	names  []string
	byName map[string]*Provider
}

// NewSet returns providers whose names and redirect URLs differ: an answer that comes to the one's URL is not the
// other's. It asks none of them anything yet, so an appliance starts while its provider is down.
func NewSet(waiting pending.Store, configs ...Config) (*Set, error) {
	s := &Set{byName: make(map[string]*Provider)}
	urls := make(map[string]string)
	var faults []error
	for _, c := range configs {
		p, err := newProvider(waiting, c)
		switch {
		case err != nil:
			faults = append(faults, err)
			continue
		case s.byName[c.Name] != nil:
			faults = append(faults, fmt.Errorf("two identity providers are called %q", c.Name))
			continue
		case urls[c.RedirectURL] != "":
			faults = append(faults, fmt.Errorf("the identity providers %q and %q have the same redirect URL", urls[c.RedirectURL], c.Name))
		}
		s.byName[c.Name], urls[c.RedirectURL] = p, c.Name
		s.names = append(s.names, c.Name)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return s, nil
}

// Names returns the providers in the order in which they were configured.
func (s *Set) Names() []string { return s.names }

// Provider returns one by its name.
func (s *Set) Provider(name string) (*Provider, error) {
	p := s.byName[name]
	if p == nil {
		return nil, ErrUnknown
	}
	return p, nil
}

// Begin is the Begin of the provider that has this name.
func (s *Set) Begin(ctx context.Context, name, browser string, fresh bool) (string, error) {
	p, err := s.Provider(name)
	if err != nil {
		return "", err
	}
	return p.Begin(ctx, browser, fresh)
}

// Finish is the Finish of the provider whose redirect URL the browser came to.
func (s *Set) Finish(ctx context.Context, name, browser string, answer url.Values) (Identity, error) {
	p, err := s.Provider(name)
	if err != nil {
		return Identity{}, err
	}
	return p.Finish(ctx, browser, answer)
}

// Refresh is the Refresh of the provider that the session is of.
func (s *Set) Refresh(ctx context.Context, session Session) (Identity, error) {
	p, err := s.Provider(session.Provider)
	if err != nil {
		return Identity{}, err
	}
	return p.Refresh(ctx, session)
}
