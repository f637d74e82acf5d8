package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/appliance/api"
	"sallyport/appliance/config"
	"sallyport/frame"
	"sallyport/host"
	"sallyport/host/slots"
	"sallyport/image/update"
)

// updateKeys are the public keys whose updates the image takes, set by the linker: base64, with commas between.
var updateKeys string

// trustedKeys are all keys whose updates are taken.
func trustedKeys(cfg *config.Config) ([]ed25519.PublicKey, error) {
	keys, err := update.ParseKeys(updateKeys)
	if err != nil {
		return nil, fmt.Errorf("the keys that the program was built with: %w", err)
	}
	for _, k := range cfg.Update.Keys {
		keys = append(keys, k[:])
	}
	return keys, nil
}

// explainUpdate is what a person is told of why an update was not taken.
func explainUpdate(err error) *host.UpdateError {
	var told *host.UpdateError
	switch {
	case errors.As(err, &told):
		return told
	case errors.Is(err, update.ErrUnsigned):
		return &host.UpdateError{Code: "E_UPDATE_REFUSED", Text: "the update is signed by none of the keys that this appliance knows, or its header was altered", Hint: "take the file of a release; update.keys in the configuration adds keys of your own"}
	case errors.Is(err, update.ErrOlder):
		return &host.UpdateError{Code: "E_UPDATE_REFUSED", Text: err.Error(), Hint: "sallyport admin update status shows what runs, and the floor"}
	case errors.Is(err, update.ErrFlavour):
		return &host.UpdateError{Code: "E_UPDATE_REFUSED", Text: err.Error(), Hint: "take the update of this appliance's flavour, or of all"}
	case errors.Is(err, update.ErrOther):
		return &host.UpdateError{Code: "E_UPDATE_REFUSED", Text: err.Error(), Hint: "have it made again: sallyport-image update takes the version from the image"}
	case errors.Is(err, errFirmware):
		return &host.UpdateError{Code: "E_UPDATE_REFUSED", Text: err.Error(), Hint: "sign its unified kernel image with sallyport-image sign and your key, and make the update of that"}
	case errors.Is(err, update.ErrFile):
		return &host.UpdateError{Code: "E_UPDATE_FILE", Text: err.Error(), Hint: "fetch the file again, and compare it with SHA256SUMS"}
	case errors.Is(err, slots.ErrTrial):
		return &host.UpdateError{Code: "E_UPDATE_REFUSED", Text: err.Error(), Hint: "wait until sallyport admin update status says that it is good"}
	case errors.Is(err, slots.ErrNoOther):
		return &host.UpdateError{Code: "E_UPDATE_REFUSED", Text: "there is no earlier version to go back to, or it is below the floor that the running one has set", Hint: "install a later version instead"}
	case errors.Is(err, slots.ErrSpace), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &host.UpdateError{Code: "E_UPDATE_SPACE", Text: err.Error(), Hint: "make room on the appliance's disk, or replace the machine by one of the new image"}
	}
	return &host.UpdateError{Code: "E_INTERNAL", Text: err.Error()}
}

// parentUpdates is what the worker asks its parent.
type parentUpdates interface {
	UpdateStatus(context.Context) (host.UpdateStatus, error)
	InstallUpdate(context.Context, *os.File) (version string, err error)
	RollbackUpdate(context.Context) (version string, err error)
	Restart(context.Context) error
}

// updates is the worker's half: it takes files and verifies them. What it says the parent does not believe.
type updates struct {
	parent parentUpdates
	keys   []ed25519.PublicKey
	folder string        // where a file is kept while it is brought
	grace  time.Duration // of sessions, when the machine restarts
	free   func(folder string) (int64, error)

	mu sync.Mutex // held while the file is written or read
}

// keepFree is what an upload leaves free, for the database and the audit log.
const keepFree = 16 << 20

func (u *updates) Status(ctx context.Context) (api.Update, error) {
	s, err := u.parent.UpdateStatus(ctx)
	if err != nil {
		return api.Update{}, refusedUpdate(err)
	}
	list := []api.UpdateSlot{}
	for _, slot := range s.Slots {
		list = append(list, api.UpdateSlot{Version: slot.Version, State: slot.State, Tries: slot.Tries, Bytes: slot.Size})
	}
	status := api.Update{Version: s.Version, Flavour: s.Flavour, Trial: s.Trial, Next: s.Next, Floor: s.Floor, Slots: list}
	u.mu.Lock()
	defer u.mu.Unlock()
	if id, size := u.begun(); id != "" {
		status.Upload = &api.UpdateUpload{ID: id, Received: size}
	}
	return status, nil
}

// refusedUpdate makes an error one that the API tells.
func refusedUpdate(err error) error {
	told := explainUpdate(err)
	return frame.Refuse(frame.Code(told.Code), strings.ReplaceAll(told.Text, "\n", "; "), told.Hint)
}

const uploadSuffix = ".update"

func (u *updates) path(id string) string { return filepath.Join(u.folder, id+uploadSuffix) }

// begun is the file that is there, and how much of it; empty if there is none.
func (u *updates) begun() (id string, size int64) {
	entries, err := os.ReadDir(u.folder)
	if err != nil {
		return "", 0
	}
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), uploadSuffix); ok {
			if info, err := e.Info(); err == nil {
				return name, info.Size()
			}
		}
	}
	return "", 0
}

// clear removes what has been brought of other files.
func (u *updates) clear(but string) error {
	entries, err := os.ReadDir(u.folder)
	if errors.Is(err, fs.ErrNotExist) {
		return os.MkdirAll(u.folder, 0o700)
	}
	for _, e := range entries {
		if e.Name() != but+uploadSuffix {
			err = errors.Join(err, os.Remove(filepath.Join(u.folder, e.Name())))
		}
	}
	return err
}

func (u *updates) Upload(ctx context.Context, id string, offset, size int64, piece io.Reader) (api.UpdateUpload, error) {
	got, err := u.upload(ctx, strings.ToLower(id), offset, size, piece)
	if err != nil {
		return api.UpdateUpload{}, refusedUpdate(err)
	}
	return got, nil
}

func (u *updates) upload(ctx context.Context, id string, offset, size int64, piece io.Reader) (api.UpdateUpload, error) {
	// The piece is taken before the lock, so that a slow line does not keep others from asking.
	b, err := io.ReadAll(piece)
	if err != nil {
		return api.UpdateUpload{}, fmt.Errorf("%w: a piece of it is too long or was cut", update.ErrFile)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if size > update.MaxFile || offset+int64(len(b)) > size {
		return api.UpdateUpload{}, fmt.Errorf("%w: longer than the %d MiB that one can have", update.ErrFile, update.MaxSize>>20)
	}
	if err := u.clear(id); err != nil {
		return api.UpdateUpload{}, err
	}
	f, err := os.OpenFile(u.path(id), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return api.UpdateUpload{}, err
	}
	defer f.Close()
	have, err := f.Seek(0, io.SeekEnd)
	if err == nil && have == offset && len(b) > 0 {
		if offset == 0 {
			err = u.first(ctx, size, b)
		}
		if err == nil {
			_, err = f.Write(b)
		}
		if err != nil { // a file that is not going to be installed keeps no room
			return api.UpdateUpload{}, errors.Join(err, os.Remove(f.Name()))
		}
		have += int64(len(b))
	}
	if err != nil {
		return api.UpdateUpload{}, err
	}
	got := api.UpdateUpload{ID: id, Received: have}
	if have > 0 {
		h, err := u.header(io.NewSectionReader(f, 0, have))
		if err != nil {
			return api.UpdateUpload{}, err
		}
		got.Version, got.Flavour, got.Floor = h.Version, h.Flavour, h.Floor
	}
	return got, nil
}

// first looks at the first piece before it is written: what is not going to be installed should not be brought.
func (u *updates) first(ctx context.Context, size int64, b []byte) error {
	h, err := u.header(bytes.NewReader(b))
	if err != nil {
		return err
	}
	s, err := u.parent.UpdateStatus(ctx)
	if err != nil {
		return err
	}
	if err := h.Fits(update.Running{Version: s.Version, Flavour: s.Flavour, Floor: s.Floor}); err != nil {
		return err
	}
	free, err := u.free(u.folder)
	if err != nil {
		return err
	}
	if free < size+keepFree {
		return &host.UpdateError{Code: "E_UPDATE_SPACE", Text: fmt.Sprintf("the appliance's state has %d MiB free, and the update needs %d", free>>20, (size+keepFree)>>20+1),
			Hint: "give the machine more disk or memory"}
	}
	return nil
}

func (u *updates) header(r io.Reader) (update.Header, error) {
	opened, err := update.Open(r, u.keys...)
	if err != nil {
		return update.Header{}, err
	}
	return opened.Header, nil
}

func (u *updates) Install(ctx context.Context, id string) (version string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f, err := os.Open(u.path(strings.ToLower(id)))
	if errors.Is(err, fs.ErrNotExist) {
		return "", frame.Refuse("E_UPDATE_FILE", "the appliance does not have this update", "bring it again: sallyport admin update FILE")
	}
	if err != nil {
		return "", refusedUpdate(err)
	}
	defer f.Close()
	opened, err := update.Open(f, u.keys...)
	if err == nil {
		version = opened.Header.Version
		_, err = io.Copy(io.Discard, opened)
	}
	if err == nil {
		version, err = u.parent.InstallUpdate(ctx, f)
	}
	if err != nil {
		err = refusedUpdate(err)
	}
	if gone := os.Remove(f.Name()); gone != nil && err == nil {
		err = refusedUpdate(gone)
	}
	return version, err
}

func (u *updates) Rollback(ctx context.Context) (version string, err error) {
	if version, err = u.parent.RollbackUpdate(ctx); err != nil {
		err = refusedUpdate(err)
	}
	return version, err
}

func (u *updates) Restart(ctx context.Context) (grace time.Duration, err error) {
	if err := u.parent.Restart(ctx); err != nil {
		return 0, refusedUpdate(err)
	}
	return u.grace, nil
}

// openUpdates has the API reach who changes the version of the image.
func (d *daemon) openUpdates(ctx context.Context) error {
	parent := d.supply.Updates()
	if parent == nil {
		return nil
	}
	keys, err := trustedKeys(d.cfg)
	if err != nil {
		return err
	}
	s, err := parent.UpdateStatus(ctx)
	var none *host.UpdateError
	switch {
	case err == nil:
		d.trial = s.Trial
	case ctx.Err() == nil && !(errors.As(err, &none) && none.Code == host.CodeNoUpdates):
		d.log.Warn("whether this version is on trial is not known", "cause", err)
	}
	d.gateway.Updates = &updates{parent: parent, keys: keys, folder: filepath.Join(d.supply.State(), "update"), grace: d.cfg.Drain.Grace, free: freeFor}
	return nil
}

// freeFor is what a folder's file system has free for this process.
func freeFor(folder string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * s.Bsize, nil
}
