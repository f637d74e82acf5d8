package auth

import (
	"cmp"
	"crypto/ed25519"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// remember is how long a used or expired code is known as such, so that its owner is told more than "unknown".
	remember = 24 * time.Hour

	// maxCodes bounds the codes remembered at once.
	maxCodes = 10_000

	// touchEvery is how often the times of Touch go to disk: a device that comes and goes costs no write each time.
	touchEvery = time.Minute
)

// A Registry is the devices and codes of an appliance. Its methods may be called by many goroutines; those that only
// read never wait for the disk.
type Registry struct {
	dir   string
	clock func() time.Time
	write func(path string, data []byte) error

	disk  sync.Mutex // held by a change from its first look to its last write; taken before mu
	limit *limiter   // guarded by disk

	mu      sync.RWMutex
	devices map[string]*record // by id
	codes   []code
	watch   map[int]func(Device)
	watches int
	dirty   bool        // a change that may wait is not on disk yet
	flush   *time.Timer // writes it; nil while there is nothing to write
	closed  bool
}

// A record is a device and what stands behind it.
type record struct {
	Device
	codes []hash // those that it enrolled with, while they are remembered
}

// A code is what is kept of an enrolment code.
type code struct {
	hash    hash
	user    string
	expires time.Time
	used    time.Time // zero while it is good
}

// Open reads the registry of a state folder, which it makes if there is none. The clock is time.Now outside tests.
func Open(dir string, clock func() time.Time) (*Registry, error) {
	return open(dir, clock, replaceFile)
}

func open(dir string, clock func() time.Time, write func(string, []byte) error) (*Registry, error) {
	r := &Registry{dir: dir, clock: clock, write: write, limit: newLimiter(), watch: make(map[int]func(Device))}
	if err := makeFolder(dir); err != nil {
		return nil, err
	}
	if err := r.load(); err != nil {
		return nil, err
	}
	return r, nil
}

// Close writes what is not on disk yet. No other method may be called after it.
func (r *Registry) Close() error {
	r.mu.Lock()
	r.closed = true
	if r.flush != nil {
		r.flush.Stop()
		r.flush = nil
	}
	r.mu.Unlock()
	return r.writeLater()
}

// NewCode returns a code that enrols one device of user within ttl; 0 means ten minutes.
func (r *Registry) NewCode(user string, ttl time.Duration) (string, error) {
	if err := CheckUser(user); err != nil {
		return "", err
	}
	r.disk.Lock()
	defer r.disk.Unlock()
	now := r.clock()
	text, h := RandomCode()
	codes := append(r.rememberedCodes(now), code{hash: h, user: user, expires: now.Add(cmp.Or(ttl, 10*time.Minute))})
	if len(codes) > maxCodes {
		return "", fmt.Errorf("%d enrolment codes are outstanding; wait until some have expired", maxCodes)
	}
	if err := r.writeCodes(codes); err != nil {
		return "", fmt.Errorf("keep the new code: %w", err)
	}
	return text, nil
}

// An Enrolment is a device that wants in.
type Enrolment struct {
	Code     string            // as typed
	User     string            // who the person says they are; empty takes the code's word for it
	Key      ed25519.PublicKey // whose private half the device has proved to hold
	Name     string            // what the person calls the device
	Platform string
	Source   netip.Addr // where it comes from; wrong codes are counted by it
}

// Enrol turns a code into a device. A device that is enrolled for the same person already stays the same device; its
// code is used up all the same.
func (r *Registry) Enrol(e Enrolment) (Device, error) {
	if err := e.check(); err != nil {
		return Device{}, err
	}
	r.disk.Lock()
	defer r.disk.Unlock()
	now := r.clock()
	if !r.limit.allow(e.Source, now) {
		return Device{}, ErrTooManyTries
	}
	c, err := r.redeem(e, now)
	if err != nil {
		r.limit.fail(e.Source, now)
		return Device{}, err
	}
	rec := record{Device: Device{ID: DeviceID(e.Key), Key: slices.Clone(e.Key), Enrolled: now}}
	if old, known := r.record(rec.ID); known {
		if err := old.mayEnrol(e, c.user); err != nil {
			return Device{}, err
		}
		rec = old
	}
	rec.User, rec.Name, rec.Platform = c.user, e.Name, e.Platform
	rec.codes = append(r.stillRemembered(rec.codes, now), c.hash)
	if err := r.put(rec); err != nil {
		return Device{}, fmt.Errorf("keep the new device: %w", err)
	}
	r.spend(c.hash, now)
	return rec.Device, nil
}

func (e Enrolment) check() error {
	if len(e.Key) != ed25519.PublicKeySize {
		return fmt.Errorf("a device key has %d bytes, not %d", ed25519.PublicKeySize, len(e.Key))
	}
	if e.User != "" {
		if err := CheckUser(e.User); err != nil {
			return err
		}
	}
	return errors.Join(CheckLabel("device name", e.Name), CheckLabel("platform", e.Platform))
}

// mayEnrol returns why a device that is known already may not enrol with a code of user's.
func (rec record) mayEnrol(e Enrolment, user string) error {
	switch {
	case !rec.Key.Equal(e.Key):
		return fmt.Errorf("another device has the id %s; make a new device key", rec.ID)
	case !rec.Revoked.IsZero():
		return ErrRevoked
	case rec.User != user:
		return ErrDeviceTaken
	}
	return nil
}

// redeem finds a good code for the enrolment, comparing with every code in constant time.
func (r *Registry) redeem(e Enrolment, now time.Time) (code, error) {
	h, ok := HashCode(e.Code)
	if !ok {
		return code{}, ErrCodeUnknown
	}
	var found code
	ok = false
	for _, c := range r.rememberedCodes(now) {
		if subtle.ConstantTimeCompare(c.hash[:], h[:]) == 1 {
			found, ok = c, true
		}
	}
	switch {
	case !ok:
		return code{}, ErrCodeUnknown
	case !found.used.IsZero():
		return code{}, ErrCodeUsed
	case !now.Before(found.expires):
		no := *ErrCodeExpired
		if ago := now.Sub(found.expires).Truncate(time.Minute); ago > 0 {
			no.Sentence += fmt.Sprintf(" %s ago", ago)
		}
		return code{}, &no
	case e.User != "" && e.User != found.user:
		return code{}, ErrCodeOtherUser
	}
	return found, nil
}

// spend notes that a code is used. The device on disk says so too, so a failure to write it here costs nothing but
// the time of the use after a restart.
func (r *Registry) spend(h hash, now time.Time) {
	codes := r.rememberedCodes(now)
	for i := range codes {
		if codes[i].hash == h {
			codes[i].used = now
		}
	}
	if r.writeCodes(codes) != nil {
		r.mu.Lock()
		r.codes = codes
		r.mu.Unlock()
	}
}

// rememberedCodes returns a copy of the codes without those that need not be known any more.
func (r *Registry) rememberedCodes(now time.Time) []code {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(r.codes), func(c code) bool { return now.After(c.expires.Add(remember)) })
}

// stillRemembered returns a copy of hashes without those of forgotten codes.
func (r *Registry) stillRemembered(hashes []hash, now time.Time) []hash {
	codes := r.rememberedCodes(now)
	return slices.DeleteFunc(slices.Clone(hashes), func(h hash) bool {
		return !slices.ContainsFunc(codes, func(c code) bool { return c.hash == h })
	})
}

// Device returns the device that has this key, or ErrUnknownDevice or ErrRevoked.
func (r *Registry) Device(key ed25519.PublicKey) (Device, error) {
	rec, known := r.record(DeviceID(key))
	switch {
	case !known || !rec.Key.Equal(key):
		return Device{}, ErrUnknownDevice
	case !rec.Revoked.IsZero():
		return Device{}, ErrRevoked
	}
	return rec.Device, nil
}

// Revoked says whether a device was enrolled and is barred now.
func (r *Registry) Revoked(id string) bool {
	rec, known := r.record(id)
	return known && !rec.Revoked.IsZero()
}

// record returns a copy of a device by its id.
func (r *Registry) record(id string) (record, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	rec, known := r.devices[id]
	if !known {
		return record{}, false
	}
	return *rec, true
}

// List returns all devices, the revoked ones too, by user and time of enrolment.
func (r *Registry) List() []Device {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]Device, 0, len(r.devices))
	for _, rec := range r.devices {
		list = append(list, rec.Device)
	}
	slices.SortFunc(list, func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.User, b.User), a.Enrolled.Compare(b.Enrolled), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Revoke ends a device's right to connect, for ever, and tells the watchers. It takes effect even where the disk
// refuses: the error then says that it is not kept yet, and the registry tries again each minute. To revoke a revoked
// device is no error and tells nobody.
func (r *Registry) Revoke(id string) error {
	rec, changed, err := r.revoke(id)
	if !changed {
		return err
	}
	r.mu.RLock()
	var watchers []func(Device)
	for _, f := range r.watch {
		watchers = append(watchers, f)
	}
	r.mu.RUnlock()
	for _, f := range watchers {
		f(rec.Device)
	}
	return err
}

func (r *Registry) revoke(id string) (rec record, changed bool, err error) {
	r.disk.Lock()
	defer r.disk.Unlock()
	rec, known := r.record(id)
	if !known {
		return rec, false, &Error{ErrUnknownDevice.Code, fmt.Sprintf("no device %.80q is enrolled here", id), "sallyport admin devices lists them"}
	}
	if !rec.Revoked.IsZero() {
		return rec, false, nil
	}
	rec.Revoked = r.clock()
	if err = r.writeDevices(rec); err != nil {
		err = fmt.Errorf("%s is revoked until the next start only; mend the disk: %w", id, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.know(rec)
	if err != nil {
		r.later()
	}
	return rec, true, err
}

// OnRevoke has f called with every device that is revoked from now on, until stop is called. Between finding a device
// and watching it a revocation may happen, so watch first and call Device after.
func (r *Registry) OnRevoke(f func(Device)) (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.watches
	r.watches++
	r.watch[n] = f
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watch, n)
	}
}

// Touch notes that a device was seen: where, and with which version of the client. It goes to disk within a minute.
// What does not print is not kept.
func (r *Registry) Touch(id string, source netip.Addr, version string) {
	if CheckLabel("version", version) != nil {
		version = ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, known := r.devices[id]
	if !known || r.closed {
		return
	}
	rec.LastSeen, rec.LastSource, rec.Version = r.clock(), source.String(), version
	r.later()
}

// flushLater runs a minute after a change that may wait, and again each minute for as long as the disk refuses.
func (r *Registry) flushLater() {
	r.writeLater() // what fails stays dirty
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flush = nil
	if r.dirty {
		r.later()
	}
}

// writeLater writes the changes that could wait.
func (r *Registry) writeLater() error {
	r.disk.Lock()
	defer r.disk.Unlock()
	r.mu.Lock()
	dirty := r.dirty
	r.dirty = false
	r.mu.Unlock()
	if !dirty {
		return nil
	}
	if err := r.writeDevices(record{}); err != nil {
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
		return fmt.Errorf("keep what is known of devices: %w", err)
	}
	return nil
}

// put writes the devices with rec among them, and then knows rec.
func (r *Registry) put(rec record) error {
	if err := r.writeDevices(rec); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.know(rec)
	return nil
}

// know takes rec in, with what a Touch may have said meanwhile. The caller holds mu.
func (r *Registry) know(rec record) {
	if now, known := r.devices[rec.ID]; known {
		rec.LastSeen, rec.LastSource, rec.Version = now.LastSeen, now.LastSource, now.Version
	}
	r.devices[rec.ID] = &rec
}

// later has the devices written within a minute. The caller holds mu.
func (r *Registry) later() {
	r.dirty = true
	if r.flush == nil && !r.closed {
		r.flush = time.AfterFunc(touchEvery, r.flushLater)
	}
}

func (r *Registry) devicesFile() string { return filepath.Join(r.dir, "devices.json") }
func (r *Registry) codesFile() string   { return filepath.Join(r.dir, "codes.json") }
