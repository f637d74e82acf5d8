package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	unknownEvery = time.Minute // an unknown key id is a reason to ask for the keys again, so often
	maxKeys      = 100
	minRSA       = 2048
	maxRSA       = 8192
)

// algorithms are those that ID tokens may be signed with. Those with a shared secret are not among them: whoever can
// verify with one can sign with it.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256, jose.EdDSA}

// A keySet is a provider's public keys.
type keySet struct {
	http  *http.Client
	clock func() time.Time
	turn  chan struct{} // held by who asks for the keys

	mu      sync.Mutex
	keys    []jose.JSONWebKey
	fetched time.Time // when they were told
	asked   time.Time // when they were last asked for, whatever came of it
	failed  bool      // the last question was not answered
}

func newKeySet(client *http.Client, clock func() time.Time) *keySet {
	return &keySet{http: client, clock: clock, turn: make(chan struct{}, 1)}
}

// find returns the key with this id that fits the algorithm; without an id, the only one that fits. The second result
// says why there is none, the error that the provider was not there to ask.
func (s *keySet) find(ctx context.Context, address, id string, alg jose.SignatureAlgorithm) (*jose.JSONWebKey, string, error) {
	key, why, old := s.look(id, alg)
	if key != nil && !old {
		return key, "", nil
	}
	err := s.ask(ctx, address, key == nil)
	if key != nil && err != nil {
		return key, "", nil // within the day, look says so
	}
	if err != nil {
		return nil, why, err
	}
	key, why, _ = s.look(id, alg)
	return key, why, nil
}

// look searches the keys that are there. Old ones should be asked for again.
func (s *keySet) look(id string, alg jose.SignatureAlgorithm) (key *jose.JSONWebKey, why string, old bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	age := s.clock().Sub(s.fetched)
	if s.keys == nil || age >= staleFor {
		return nil, "its keys are not known", true
	}
	var fits []*jose.JSONWebKey
	known := false
	for i := range s.keys {
		k := &s.keys[i]
		if id != "" && k.KeyID != id {
			continue
		}
		known = true
		if suits(k, alg) {
			fits = append(fits, k)
		}
	}
	switch {
	case len(fits) == 1:
		return fits[0], "", age >= freshFor
	case id == "":
		return nil, fmt.Sprintf("the id token names no key, and %d of the provider's fit %s", len(fits), alg), true
	case len(fits) > 1:
		return nil, fmt.Sprintf("the provider has %d keys with the id %.80q", len(fits), id), true
	case known:
		return nil, fmt.Sprintf("the provider's key %.80q is not for %s", id, alg), true
	}
	return nil, fmt.Sprintf("the provider has no key with the id %.80q", id), true
}

// suits reports whether a key may verify an algorithm.
func suits(k *jose.JSONWebKey, alg jose.SignatureAlgorithm) bool {
	if k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != string(alg) {
		return false
	}
	switch key := k.Key.(type) {
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		return (alg == jose.RS256 || alg == jose.PS256) && bits >= minRSA && bits <= maxRSA
	case *ecdsa.PublicKey:
		return alg == jose.ES256 && key.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return alg == jose.EdDSA
	}
	return false
}

// ask fetches the keys, unless they were asked for too short a time ago.
func (s *keySet) ask(ctx context.Context, address string, missing bool) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.mu.Lock()
	since := s.clock().Sub(s.asked)
	failed, first := s.failed, s.asked.IsZero()
	s.mu.Unlock()
	switch {
	case first:
	case failed && since < retryPause:
		return errors.New("it did not tell its keys a moment ago")
	case !failed && missing && since < unknownEvery:
		return nil
	case !failed && !missing && since < freshFor:
		return nil // somebody else has asked meanwhile
	}
	var keys []jose.JSONWebKey
	err := twice(ctx, func() (err error) {
		keys, err = s.fetch(ctx, address)
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && ctx.Err() != nil {
		return err // one who gave up says nothing about the provider
	}
	s.asked, s.failed = s.clock(), err != nil
	if err == nil {
		s.keys, s.fetched = keys, s.asked
	}
	return err
}

// fetch reads the key set. Keys of kinds that nobody here knows are left out, as RFC 7517 wants it.
func (s *keySet) fetch(ctx context.Context, address string) ([]jose.JSONWebKey, error) {
	answer, err := get(ctx, s.http, address)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	return parseKeys(data)
}

func parseKeys(data []byte) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("its keys cannot be read: %.200q", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("it has %d keys, more than %d", len(set.Keys), maxKeys)
	}
	keys := []jose.JSONWebKey{}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && k.Valid() && k.IsPublic() {
			keys = append(keys, k)
		}
	}
	return keys, nil
}
