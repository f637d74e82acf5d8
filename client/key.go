package client

import (
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

// key reads the device key for an appliance. A key that others could have read is no proof of anything.
func (h Home) key(name string) (frame.PrivateKey, error) {
	path := h.keyFile(name)
	refuse := func(why, hint string) (frame.PrivateKey, error) {
		return nil, frame.Refuse(frame.Auth, fmt.Sprintf("the device key %s %s", path, why), hint)
	}
	if dir, err := os.Stat(h.dir); err == nil && changeableByOthers(dir) {
		return nil, frame.Refuse(frame.Auth, "the folder "+h.dir+" can be changed by others", "run: chmod 700 "+h.dir+"; if you do not know why that was so, log out and in again")
	}
	const again = "log in again with a new enrolment code"
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return refuse("is missing", again)
	case err != nil:
		return refuse("cannot be read: "+err.Error(), again)
	case openToOthers(info):
		return refuse("can be read by others", "run: chmod 600 "+path+"; if somebody may have copied it, log out and in again")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return refuse("cannot be read: "+err.Error(), again)
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" {
		return refuse("is not a PEM private key", again)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return refuse("does not hold an Ed25519 key", again)
	}
	return frame.PrivateKey(key), nil
}

// stageKey writes the device key for an appliance, to be kept when it is enrolled.
func (h Home) stageKey(name string, key ed25519.PrivateKey) (*staged, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return h.stage(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
