package auth

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// formatVersion is of devices.json and codes.json, where older programs kept devices and codes. A file of a later one is
// refused, not guessed at.
const formatVersion = 1

type devicesForm struct {
	Version int          `json:"version"`
	Devices []deviceForm `json:"devices"`
}

type deviceForm struct {
	ID            string    `json:"id"`
	User          string    `json:"user"`
	Name          string    `json:"name"`
	Platform      string    `json:"platform,omitempty"`
	Key           string    `json:"key"` // base64
	Enrolled      time.Time `json:"enrolled"`
	LastSeen      time.Time `json:"last_seen,omitzero"`
	LastSource    string    `json:"last_source,omitempty"`
	ClientVersion string    `json:"client_version,omitempty"`
	Revoked       time.Time `json:"revoked,omitzero"`
	Codes         []string  `json:"codes,omitempty"` // hex
}

type codesForm struct {
	Version int        `json:"version"`
	Codes   []codeForm `json:"codes"`
}

type codeForm struct {
	Hash    string    `json:"hash"` // hex
	User    string    `json:"user"`
	Expires time.Time `json:"expires"`
	Used    time.Time `json:"used,omitzero"`
}

const importedSuffix = ".imported"

// takeOver puts what the files of an older program hold into the store, and the files aside.
func takeOver(ctx context.Context, dir string, store Store) error {
	devicesFile, codesFile := filepath.Join(dir, "devices.json"), filepath.Join(dir, "codes.json")
	devicesData, err := readOld(devicesFile)
	if err != nil {
		return err
	}
	codesData, err := readOld(codesFile)
	if err != nil || devicesData == nil && codesData == nil {
		return err
	}
	if err := checkPair(devicesFile, codesFile, devicesData, codesData); err != nil {
		return err
	}
	devices, used, err := parseDevices(devicesData)
	if err != nil {
		return broken(devicesFile, err, "everyone enrols again")
	}
	codes, err := parseCodes(codesData)
	if err != nil {
		return broken(codesFile, err, "codes that are not used yet are void")
	}
	for i, c := range codes { // a device that is kept has used up its code, whether or not the other file says so
		if by, is := used[hash(c.Hash)]; is && c.Used.IsZero() {
			codes[i].Used, codes[i].By = by.Enrolled, by.ID
		}
	}
	if err := store.Import(ctx, devices, codes); err != nil {
		return fmt.Errorf("take over devices and codes: %w", err)
	}
	for _, path := range []string{devicesFile, codesFile} {
		if err := os.Rename(path, path+importedSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("put aside what was taken over: %w", err)
		}
	}
	return syncFolder(dir)
}

// checkPair takes one file without the other for a loss, unless the other was put aside already, or the files were being made.
func checkPair(devicesFile, codesFile string, devices, codes []byte) error {
	missing, cost := devicesFile, "everyone enrols again"
	switch list, err := parseCodes(codes); {
	case devices != nil && codes != nil, devices == nil && err == nil && len(list) == 0:
		return nil
	case codes == nil:
		missing, cost = codesFile, "codes that are not used yet are void"
	}
	if aside, err := exists(missing + importedSuffix); aside || err != nil {
		return err
	}
	return broken(missing, errors.New("the file is missing, though the other one is there"), cost)
}

// readOld reads a file of an older program; nil if there is none.
func readOld(path string) ([]byte, error) {
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// broken says what to do about a file that cannot be used.
func broken(path string, err error, cost string) error {
	return fmt.Errorf("%s: %w; put back a backup, or remove both devices.json and codes.json to begin anew (%s)", path, err, cost)
}

// parseDevices returns the devices of a file, and which of them has used which code. Nothing holds no devices.
func parseDevices(data []byte) ([]Device, map[hash]Device, error) {
	var form devicesForm
	if err := parseForm(data, &form, &form.Version); err != nil {
		return nil, nil, err
	}
	var devices []Device
	used, known := map[hash]Device{}, map[string]bool{}
	for i, f := range form.Devices {
		d, codes, err := f.device()
		if err != nil {
			return nil, nil, fmt.Errorf("device %d: %w", i+1, err)
		}
		if known[d.ID] {
			return nil, nil, fmt.Errorf("device %d: %s is there twice", i+1, d.ID)
		}
		known[d.ID] = true
		devices = append(devices, d)
		for _, h := range codes {
			used[h] = d
		}
	}
	return devices, used, nil
}

func parseForm(data []byte, form any, version *int) error {
	if data == nil {
		return nil
	}
	if err := decodeStrict(data, form); err != nil {
		return err
	}
	if *version != formatVersion {
		return fmt.Errorf("its version is %d, this program reads %d", *version, formatVersion)
	}
	return nil
}

func (f deviceForm) device() (d Device, codes []hash, err error) {
	key, err := base64.StdEncoding.DecodeString(f.Key)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return d, nil, errors.New("its key is not an Ed25519 public key")
	}
	if id := DeviceID(key); id != f.ID {
		return d, nil, fmt.Errorf("its id is %q, its key's is %s", f.ID, id)
	}
	for _, text := range f.Codes {
		h, err := parseHash(text)
		if err != nil {
			return d, nil, err
		}
		codes = append(codes, h)
	}
	d = Device{
		ID: f.ID, User: f.User, Name: f.Name, Platform: f.Platform, Key: key, Enrolled: f.Enrolled,
		LastSeen: f.LastSeen, LastSource: f.LastSource, Version: f.ClientVersion, Revoked: f.Revoked,
	}
	return d, codes, errors.Join(CheckUser(f.User), CheckLabel("device name", f.Name), CheckLabel("platform", f.Platform),
		CheckLabel("source", f.LastSource), CheckLabel("version", f.ClientVersion))
}

// parseCodes returns the codes of a file. Nothing holds no codes.
func parseCodes(data []byte) ([]Code, error) {
	var form codesForm
	if err := parseForm(data, &form, &form.Version); err != nil {
		return nil, err
	}
	var codes []Code
	for i, c := range form.Codes {
		h, err := parseHash(c.Hash)
		if err = errors.Join(err, CheckUser(c.User)); err != nil {
			return nil, fmt.Errorf("code %d: %w", i+1, err)
		}
		codes = append(codes, Code{Hash: h[:], User: c.User, Expires: c.Expires, Used: c.Used})
	}
	return codes, nil
}

func parseHash(text string) (h hash, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(h) {
		return h, errors.New("the hash of a code is not 64 hexadecimal digits")
	}
	return hash(b), nil
}
