package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"sallyport/appliance/sshca"
	"sallyport/appliance/store"
)

// sealFile, in the state folder, has the key that the SSH authority's keys are sealed by in the database.
const sealFile = "ssh-ca.seal"

// caKeys is what they are called there.
const caKeys = "ssh-user-ca"

// sealKey reads the file, or makes it.
func sealKey(dir string) ([]byte, error) {
	path := filepath.Join(dir, sealFile)
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, 32)
		rand.Read(key)
		err = writeNew(path, key)
	}
	if err == nil && len(key) != 32 {
		err = fmt.Errorf("%s has %d bytes, and not 32", path, len(key))
	}
	if err != nil {
		return nil, fmt.Errorf("the SSH authority's seal: %w", err)
	}
	return key, nil
}

// writeNew makes a file that is there as a whole or not at all.
func writeNew(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // in vain once it is renamed
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// openCA opens the SSH authority. An appliance that cannot read its keys, such as one with a restored database, serves
// without certificates until it has the seal.
func (d *daemon) openCA(ctx context.Context) error {
	seal, err := sealKey(d.supply.State())
	if err != nil {
		return err
	}
	ca, err := sshca.Open(ctx, caStore{d.store}, seal, time.Now)
	if errors.Is(err, sshca.ErrSeal) {
		d.log.Error("no SSH certificates are given", "cause", err, "missing", sealFile)
		return nil
	}
	if err != nil {
		return err
	}
	d.sshCA, d.gateway.SSHCA = ca, ca
	return nil
}

// caStore is the database as the authority wants it. That a key has been created means there that it signs.
type caStore struct{ *store.Store }

// Keys implements sshca.Store.
func (s caStore) Keys(ctx context.Context) ([]sshca.Key, error) {
	all, err := s.Store.Keys(ctx, caKeys, time.Now())
	keys := make([]sshca.Key, 0, len(all))
	for _, k := range all {
		keys = append(keys, sshca.Key{Serial: k.Serial, Signs: k.Created, Public: k.Public, Sealed: k.Sealed})
	}
	return keys, err
}

// Add implements sshca.Store.
func (s caStore) Add(ctx context.Context, k sshca.Key) error {
	err := s.AddKey(ctx, store.Key{Name: caKeys, Serial: k.Serial, Created: k.Signs, Public: k.Public, Sealed: k.Sealed})
	if errors.Is(err, store.ErrConflict) {
		return sshca.ErrConflict
	}
	return err
}

// Retire implements sshca.Store.
func (s caStore) Retire(ctx context.Context, serial int64, at time.Time) error {
	return s.RetireKey(ctx, caKeys, serial, at)
}

// maxOverlap bounds how long two keys of the authority are good side by side.
const maxOverlap = 90 * 24 * time.Hour

// serveCA answers on the control socket.
func (d *daemon) serveCA(w http.ResponseWriter, r *http.Request) {
	var answer caAnswer
	if d.sshCA == nil {
		refuse(w, http.StatusServiceUnavailable, fmt.Errorf("%w: copy %s from the one that made them, and start again", sshca.ErrSeal, sealFile))
		return
	}
	if r.Method == http.MethodPost {
		overlap, err := time.ParseDuration(r.URL.Query().Get("overlap"))
		if err != nil || overlap < 0 || overlap > maxOverlap {
			refuse(w, http.StatusBadRequest, fmt.Errorf("the overlap must be a time of at most %v", maxOverlap))
			return
		}
		if answer.Signs, err = d.sshCA.Rotate(r.Context(), overlap); err != nil {
			refuse(w, http.StatusServiceUnavailable, err)
			return
		}
		d.log.Info("SSH authority's next key made", "signs", answer.Signs)
	} else if err := d.sshCA.Reload(r.Context()); err != nil {
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	answer.Lines = d.sshCA.Lines()
	json.NewEncoder(w).Encode(answer)
}

// caAnswer is what targets are to trust.
type caAnswer struct {
	Lines []string  `json:"lines"`
	Signs time.Time `json:"signs,omitzero"` // from when on the first of them does
}
