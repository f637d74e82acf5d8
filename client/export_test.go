package client

import (
	"maps"
	"slices"
	"sync"
)

// A FakeKeychain is in memory. It can be locked, which is told without asking anybody, or fail.
type FakeKeychain struct {
	mu      sync.Mutex
	entries map[string]string
	err     error
	Locked  bool
	Wait    func() // before each call, as for a person
}

// WithKeychain is h with another keychain than the computer's.
func WithKeychain(h Home, k *FakeKeychain) Home {
	h.keychain = k
	return h
}

// Fail lets all calls fail, until it is told nil.
func (k *FakeKeychain) Fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// Accounts are those that there are secrets for.
func (k *FakeKeychain) Accounts() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Keys(k.entries))
}

// Spoil replaces all secrets.
func (k *FakeKeychain) Spoil(secret string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for account := range k.entries {
		k.entries[account] = secret
	}
}

func (k *FakeKeychain) unlocked() bool { return !k.Locked }

func (k *FakeKeychain) set(account, secret string) error {
	_, err := k.do(func() error {
		if k.entries == nil {
			k.entries = map[string]string{}
		}
		k.entries[account] = secret
		return nil
	}, account)
	return err
}

func (k *FakeKeychain) get(account string) (string, error) {
	return k.do(func() error { return k.has(account) }, account)
}

func (k *FakeKeychain) remove(account string) error {
	_, err := k.do(func() error {
		err := k.has(account)
		delete(k.entries, account)
		return err
	}, account)
	return err
}

func (k *FakeKeychain) has(account string) error {
	if _, ok := k.entries[account]; !ok {
		return errNoSecret
	}
	return nil
}

func (k *FakeKeychain) do(f func() error, account string) (string, error) {
	if k.Wait != nil {
		k.Wait()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return "", k.err
	}
	err := f()
	return k.entries[account], err
}
