package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"github.com/zalando/go-keyring"

	"sallyport/frame"
)

// A keychain keeps secrets for the person: the macOS Keychain, the Windows Credential Manager, a Secret Service on Linux. Any call
// may wait for the person, who is asked to unlock it, and cannot be interrupted.
type keychain interface {
	unlocked() bool // asks nobody and starts nothing
	set(account, secret string) error
	get(account string) (string, error) // errNoSecret if there is none
	remove(account string) error        // the same
}

var errNoSecret = keyring.ErrNotFound

// keychainService is whose secrets they are, for the keychain.
const keychainService = "sallyport"

// A systemKeychain is the one of the computer.
type systemKeychain struct{}

func (systemKeychain) unlocked() bool { return keychainUnlocked() }

func (systemKeychain) set(account, secret string) error {
	if err := keychainReachable(); err != nil {
		return err
	}
	return keyring.Set(keychainService, account, secret)
}

func (systemKeychain) get(account string) (string, error) {
	if err := keychainReachable(); err != nil {
		return "", err
	}
	return keyring.Get(keychainService, account)
}

func (systemKeychain) remove(account string) error {
	if err := keychainReachable(); err != nil {
		return err
	}
	return keyring.Delete(keychainService, account)
}

const (
	keychainSoon     = 3 * time.Second // when nobody has asked for a keychain
	keychainPatience = time.Minute     // when there is no other way: the person may have a password to type
)

// inTime waits for f no longer than d and no longer than ctx. An f that takes longer goes on by itself; its context has ended.
func inTime[T any](ctx context.Context, d time.Duration, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, d, fmt.Errorf("no answer within %v", d))
	defer cancel()
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := f(ctx)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// account is the entry of an appliance's key. Each home has its own.
func (h Home) account(name string) string {
	dir := h.dir
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	sum := sha256.Sum256([]byte(dir))
	return fmt.Sprintf("%s-%x", name, sum[:8])
}

// secret reads what the keychain keeps for an appliance.
func (h Home) secret(name string) (string, error) {
	account := h.account(name)
	s, err := inTime(context.Background(), keychainPatience, func(context.Context) (string, error) { return h.keychain.get(account) })
	switch {
	case errors.Is(err, errNoSecret):
		return "", frame.Refuse(frame.Auth, fmt.Sprintf("the device key %s is missing in the keychain", account), againHint)
	case err != nil:
		return "", noKeychain(err)
	}
	return s, nil
}

// dropSecret removes what the keychain keeps for an appliance, if anything.
func (h Home) dropSecret(name string) error {
	account := h.account(name)
	err := h.removeSecret(context.Background(), keychainPatience, account)
	if err != nil {
		return frame.Refuse(frame.Auth, fmt.Sprintf("the device key stays in the keychain: %s", frame.Clip(err.Error(), 200)),
			fmt.Sprintf("remove the entry %s of %s there", account, keychainService))
	}
	return nil
}

func (h Home) removeSecret(ctx context.Context, d time.Duration, account string) error {
	_, err := inTime(ctx, d, func(context.Context) (struct{}, error) { return struct{}{}, h.keychain.remove(account) })
	if errors.Is(err, errNoSecret) {
		return nil
	}
	return err
}

// keepSecret writes an entry and looks whether it is there: not every keychain says when it has not taken one.
func (h Home) keepSecret(account, secret string) error {
	if err := h.keychain.set(account, secret); err != nil {
		return err
	}
	switch got, err := h.keychain.get(account); {
	case err != nil:
		return err
	case got != secret:
		return errors.New("it does not return what it was given")
	}
	return nil
}

// A stagedSecret is in the keychain under another name.
type stagedSecret struct {
	home            Home
	account, secret string
}

func staging(account string) string { return account + ".new" }

// stageSecret writes what may become an appliance's entry, if the keychain takes it within d. With ask the person may have to unlock
// the keychain.
func (h Home) stageSecret(ctx context.Context, d time.Duration, name, secret string, ask bool) (*stagedSecret, error) {
	s := &stagedSecret{h, h.account(name), secret}
	_, err := inTime(ctx, d, func(ctx context.Context) (struct{}, error) {
		if !ask && !h.keychain.unlocked() {
			return struct{}{}, errors.New("there is none, or it is locked")
		}
		err := h.keepSecret(staging(s.account), secret)
		if ctx.Err() != nil { // nobody waits for it any more
			h.keychain.remove(staging(s.account))
		}
		return struct{}{}, err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *stagedSecret) commit() error {
	_, err := inTime(context.Background(), keychainPatience, func(context.Context) (struct{}, error) {
		return struct{}{}, s.home.keepSecret(s.account, s.secret)
	})
	s.discard()
	if err != nil {
		return noKeychain(err)
	}
	return nil
}

func (s *stagedSecret) discard() {
	s.home.removeSecret(context.Background(), keychainSoon, staging(s.account))
}

func noKeychain(err error) error {
	unlock := map[string]string{
		"darwin": "unlock it: security unlock-keychain", "windows": "sign in to Windows itself, not only by ssh",
	}[runtime.GOOS]
	if unlock == "" {
		unlock = "unlock it in your desktop session"
	}
	return frame.Refuse(frame.Auth, "the keychain does not give or take the device key: "+frame.Clip(err.Error(), 200),
		unlock+"; or log in again with --key-store file")
}
