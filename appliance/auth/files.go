package auth

import (
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// formatVersion is of both files. A file of a later one is refused, not guessed at.
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

// load reads both files, or makes both where there are none. One without the other is a loss, not a fresh start.
func (r *Registry) load() error {
	haveDevices, err := exists(r.devicesFile())
	if err != nil {
		return err
	}
	haveCodes, err := exists(r.codesFile())
	if err != nil {
		return err
	}
	switch {
	case !haveDevices && !haveCodes:
		r.devices = make(map[string]*record)
		// Devices last: after a crash in between, the next start finds a folder without enrolled devices.
		return errors.Join(r.writeCodes(nil), r.writeDevices(record{}))
	case !haveDevices && !r.freshCodes():
		return broken(r.devicesFile(), errors.New("the file is missing, though codes.json is there"), "everyone enrols again")
	}
	if haveDevices {
		err = r.loadDevices()
	} else {
		r.devices = make(map[string]*record)
		err = r.writeDevices(record{})
	}
	if err != nil {
		return err
	}
	if !haveCodes {
		return broken(r.codesFile(), errors.New("the file is missing, though devices.json is there"), "codes that are not used yet are void")
	}
	return r.loadCodes()
}

// freshCodes reports whether codes.json is as load makes it, before any use.
func (r *Registry) freshCodes() bool {
	data, err := readFile(r.codesFile())
	if err != nil {
		return false
	}
	codes, err := parseCodes(data)
	return err == nil && len(codes) == 0
}

func (r *Registry) loadDevices() error {
	data, err := readFile(r.devicesFile())
	if err != nil {
		return err
	}
	if r.devices, err = parseDevices(data); err != nil {
		return broken(r.devicesFile(), err, "everyone enrols again")
	}
	return nil
}

func (r *Registry) loadCodes() error {
	data, err := readFile(r.codesFile())
	if err != nil {
		return err
	}
	if r.codes, err = parseCodes(data); err != nil {
		return broken(r.codesFile(), err, "codes that are not used yet are void")
	}
	for _, rec := range r.devices {
		for _, h := range rec.codes {
			for i := range r.codes {
				if r.codes[i].hash == h && r.codes[i].used.IsZero() {
					r.codes[i].used = rec.Enrolled
				}
			}
		}
	}
	return nil
}

// broken says what to do about a file that cannot be used.
func broken(path string, err error, cost string) error {
	return fmt.Errorf("%s: %w; put back a backup, or remove both devices.json and codes.json to begin anew (%s)", path, err, cost)
}

func parseDevices(data []byte) (map[string]*record, error) {
	var form devicesForm
	if err := decodeStrict(data, &form); err != nil {
		return nil, err
	}
	if form.Version != formatVersion {
		return nil, fmt.Errorf("its version is %d, this program reads %d", form.Version, formatVersion)
	}
	devices := make(map[string]*record, len(form.Devices))
	for i, d := range form.Devices {
		rec, err := d.record()
		if err != nil {
			return nil, fmt.Errorf("device %d: %w", i+1, err)
		}
		if devices[rec.ID] != nil {
			return nil, fmt.Errorf("device %d: %s is there twice", i+1, rec.ID)
		}
		devices[rec.ID] = &rec
	}
	return devices, nil
}

func (d deviceForm) record() (record, error) {
	key, err := base64.StdEncoding.DecodeString(d.Key)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return record{}, errors.New("its key is not an Ed25519 public key")
	}
	if id := DeviceID(key); id != d.ID {
		return record{}, fmt.Errorf("its id is %q, its key's is %s", d.ID, id)
	}
	rec := record{Device: Device{
		ID: d.ID, User: d.User, Name: d.Name, Platform: d.Platform, Key: key, Enrolled: d.Enrolled,
		LastSeen: d.LastSeen, LastSource: d.LastSource, Version: d.ClientVersion, Revoked: d.Revoked,
	}}
	for _, text := range d.Codes {
		h, err := parseHash(text)
		if err != nil {
			return record{}, err
		}
		rec.codes = append(rec.codes, h)
	}
	return rec, errors.Join(CheckUser(d.User), CheckLabel("device name", d.Name), CheckLabel("platform", d.Platform),
		CheckLabel("source", d.LastSource), CheckLabel("version", d.ClientVersion))
}

func parseCodes(data []byte) ([]code, error) {
	var form codesForm
	if err := decodeStrict(data, &form); err != nil {
		return nil, err
	}
	if form.Version != formatVersion {
		return nil, fmt.Errorf("its version is %d, this program reads %d", form.Version, formatVersion)
	}
	var codes []code
	for i, c := range form.Codes {
		h, err := parseHash(c.Hash)
		if err = errors.Join(err, CheckUser(c.User)); err != nil {
			return nil, fmt.Errorf("code %d: %w", i+1, err)
		}
		codes = append(codes, code{hash: h, user: c.User, expires: c.Expires, used: c.Used})
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

// writeDevices writes the devices as they are, with the changed one in place of the one of its id; the zero record
// changes nothing. The caller holds disk.
func (r *Registry) writeDevices(changed record) error {
	r.mu.RLock()
	form := devicesForm{Version: formatVersion, Devices: []deviceForm{}}
	for id, rec := range r.devices {
		if id != changed.ID {
			form.Devices = append(form.Devices, rec.form())
		}
	}
	r.mu.RUnlock()
	if changed.ID != "" {
		form.Devices = append(form.Devices, changed.form())
	}
	slices.SortFunc(form.Devices, func(a, b deviceForm) int {
		return cmp.Or(a.Enrolled.Compare(b.Enrolled), cmp.Compare(a.ID, b.ID))
	})
	return r.writeJSON(r.devicesFile(), form)
}

func (rec record) form() deviceForm {
	d := deviceForm{
		ID: rec.ID, User: rec.User, Name: rec.Name, Platform: rec.Platform, Key: base64.StdEncoding.EncodeToString(rec.Key),
		Enrolled: rec.Enrolled, LastSeen: rec.LastSeen, LastSource: rec.LastSource, ClientVersion: rec.Version, Revoked: rec.Revoked,
	}
	for _, h := range rec.codes {
		d.Codes = append(d.Codes, hex.EncodeToString(h[:]))
	}
	return d
}

// writeCodes writes codes, and then knows them. The caller holds disk.
func (r *Registry) writeCodes(codes []code) error {
	form := codesForm{Version: formatVersion, Codes: []codeForm{}}
	for _, c := range codes {
		form.Codes = append(form.Codes, codeForm{hex.EncodeToString(c.hash[:]), c.user, c.expires, c.used})
	}
	if err := r.writeJSON(r.codesFile(), form); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.codes = codes
	return nil
}

func (r *Registry) writeJSON(path string, form any) error {
	data, err := json.MarshalIndent(form, "", "  ")
	if err != nil {
		return err
	}
	return r.write(path, append(data, '\n'))
}
