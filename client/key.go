package client

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sallyport/frame"
)

func (h Home) keyFile(name string) string { return filepath.Join(h.dir, name+".key") }

// Where the device key is kept. Empty means a file.
const (
	KeyFile     = "file"     // NAME.key, 0600
	KeyKeychain = "keychain" // of the operating system
	KeyAuto     = "auto"     // for login: the keychain if one answers soon and needs nobody to unlock it, or else a file
)

const againHint = "log in again with a new enrolment code"

// key reads the device key for an appliance. A key that others could have read is no proof of anything.
func (h Home) key(p *Profile) (frame.PrivateKey, error) {
	if dir, err := os.Stat(h.dir); err == nil && changeableByOthers(dir) {
		return nil, frame.Refuse(frame.Auth, "the folder "+h.dir+" can be changed by others", "run: chmod 700 "+h.dir+"; if you do not know why that was so, log out and in again")
	}
	if p.KeyStore == KeyKeychain {
		s, err := h.secret(p.Name)
		if err != nil {
			return nil, err
		}
		return parseKey([]byte(s), h.account(p.Name)+" in the keychain")
	}
	path := h.keyFile(p.Name)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, noKey(path, "is missing", againHint)
	case err != nil:
		return nil, noKey(path, "cannot be read: "+err.Error(), againHint)
	case openToOthers(info):
		return nil, noKey(path, "can be read by others", "run: chmod 600 "+path+"; if somebody may have copied it, log out and in again")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, noKey(path, "cannot be read: "+err.Error(), againHint)
	}
	return parseKey(b, path)
}

func noKey(where, why, hint string) error {
	return frame.Refuse(frame.Auth, fmt.Sprintf("the device key %s %s", where, why), hint)
}

func parseKey(b []byte, where string) (frame.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, noKey(where, "is not a PEM private key", againHint)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, noKey(where, "does not hold an Ed25519 key", againHint)
	}
	return frame.PrivateKey(key), nil
}

// keyStamp changes when the device has another key. What is in a keychain is not read for it: with another key the appliance has
// given the device another name, which stands in the profile.
func (h Home) keyStamp(p *Profile) []byte {
	if p.KeyStore == KeyKeychain {
		return nil
	}
	key, err := os.ReadFile(h.keyFile(p.Name))
	if err != nil {
		return nil // NewDirect says what is wrong with it
	}
	return key
}

// A stagedKey is kept, but not yet in the place of the key before it: either commit or discard follows.
type stagedKey interface {
	commit() error
	discard()
}

// stageKey keeps the device key of p in a store, to take its place when it is enrolled, and notes in p which store that is.
func (h Home) stageKey(ctx context.Context, p *Profile, store string, key ed25519.PrivateKey) (stagedKey, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := h.make(); err != nil {
		return nil, err
	}
	if store == KeyKeychain || store == KeyAuto {
		patience := keychainPatience
		if store == KeyAuto {
			patience = keychainSoon
		}
		s, err := h.stageSecret(ctx, patience, p.Name, string(text), store == KeyKeychain)
		switch {
		case err == nil:
			p.KeyStore = KeyKeychain
			return s, nil
		case ctx.Err() != nil:
			return nil, err
		case store == KeyKeychain:
			return nil, noKeychain(err)
		}
	}
	s, err := h.stage(p.Name+".key", text)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// dropKey removes the key of an appliance from one store.
func (h Home) dropKey(name, store string) error {
	if store == KeyKeychain {
		return h.dropSecret(name)
	}
	if err := os.Remove(h.keyFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
