package auth

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// An Identity is the fleet's own Ed25519 key. Clients pin it when they log in; it signs challenges where there is no
// TLS exporter that both ends share.
type Identity struct {
	key ed25519.PrivateKey
}

// OpenIdentity reads identity.key of a state folder, and makes it where there is none.
func OpenIdentity(dir string) (*Identity, error) {
	key, err := openSigning(filepath.Join(dir, "identity.key"))
	return &Identity{key}, err
}

// ParseIdentity reads what an identity.key holds, PEM of a PKCS #8 private key (RFC 7468 §10).
func ParseIdentity(data []byte) (*Identity, error) {
	key, err := parseKey(data)
	if err != nil {
		return nil, err
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("the key is not Ed25519")
	}
	return &Identity{ed}, nil
}

// OpenAuditKey reads audit.key of a state folder, which signs the audit log, and makes it where there is none.
func OpenAuditKey(dir string) (ed25519.PrivateKey, error) {
	return openSigning(filepath.Join(dir, "audit.key"))
}

func openSigning(path string) (ed25519.PrivateKey, error) {
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return nil, err
	}
	key, err := openKey(path, func() (any, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	})
	if err != nil {
		return nil, err
	}
	ed, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a key that is not Ed25519", path)
	}
	return ed, nil
}

// Sign returns the signature of message. Callers begin it with a context string of their own.
func (i *Identity) Sign(message []byte) []byte { return ed25519.Sign(i.key, message) }

// Derive returns a key of its own for a purpose, which everybody who has the identity key can make again (RFC 5869).
func (i *Identity) Derive(purpose string) [32]byte {
	key, err := hkdf.Key(sha256.New, i.key.Seed(), nil, "sallyport "+purpose, 32)
	if err != nil {
		panic(err) // of a length that SHA-256 cannot make
	}
	return [32]byte(key)
}

// Public returns the key that clients pin.
func (i *Identity) Public() ed25519.PublicKey { return i.key.Public().(ed25519.PublicKey) }

// Successors returns the keys that clients shall accept after this one. There are none until keys can be changed.
func (i *Identity) Successors() []ed25519.PublicKey { return nil }

// openKey reads a private key that only its owner can read, or makes it and keeps it before anyone sees it.
func openKey(path string, generate func() (any, error)) (any, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := generate()
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		if err := replaceFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
			return nil, fmt.Errorf("make %s: %w", path, err)
		}
		return key, nil
	}
	if err != nil {
		return nil, err
	}
	if err := checkSecret(path); err != nil {
		return nil, err
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; put back a backup, or remove the file and have every client log in again", path, err)
	}
	return key, nil
}

func parseKey(data []byte) (any, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" || len(rest) > 0 {
		return nil, errors.New("the file is not one PEM block of a PKCS #8 private key")
	}
	return x509.ParsePKCS8PrivateKey(block.Bytes)
}
