package auth

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// remember is how long a used or expired code is known as such, so that its owner is told more than "unknown".
	remember = 24 * time.Hour

	// maxCodes bounds the codes remembered at once.
	maxCodes = 10_000

	// keepEvery is how often what may wait goes into the store: a device that comes and goes costs no write each time.
	keepEvery = time.Minute

	// keepAtOnce is how many devices' times go into the store in one piece.
	keepAtOnce = 500

	// downFor is how long the store is not asked about codes after it has not answered: nobody waits for others' waiting.
	downFor = time.Second
)

// A Registry is the devices and codes of an appliance. Its methods may be called by many goroutines; those that only
// read never wait for the store.
type Registry struct {
	store  Store
	clock  func() time.Time
	ctx    context.Context // ends with Close
	stop   context.CancelFunc
	follow sync.WaitGroup

	enrolling sync.Mutex // one at a time, so that a wrong code is counted before the next is looked at
	limit     *limiter   // guarded by enrolling
	down      time.Time  // when the store did not answer last; guarded by enrolling

	keeping sync.Mutex // held while what may wait is put into the store; taken before mu

	mu       sync.RWMutex
	devices  map[string]Device // by id
	watch    map[int]func(Device, error)
	watches  int
	seen     map[string]bool      // whose times are not in the store yet
	revoking map[string]time.Time // whose revocation is not in the store yet
	keep     *time.Timer          // puts them there; nil while there is nothing to put
	closed   bool
}

// Open reads the devices of a store into memory and follows what others do to them. Devices and codes that an older
// program has left in the state folder dir are put into the store first. The clock is time.Now outside tests.
func Open(ctx context.Context, dir string, store Store, clock func() time.Time) (*Registry, error) {
	if err := makeFolder(dir); err != nil {
		return nil, err
	}
	if err := takeOver(ctx, dir, store); err != nil {
		return nil, err
	}
	r := &Registry{store: store, clock: clock, limit: newLimiter(), devices: map[string]Device{}, watch: map[int]func(Device, error){},
		seen: map[string]bool{}, revoking: map[string]time.Time{}}
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := r.readAll(ctx); err != nil {
		r.stop()
		return nil, err
	}
	r.follow.Go(func() { store.Watch(r.ctx, r.takeUp) })
	r.follow.Go(func() { r.expire(r.ctx) })
	return r, nil
}

// Close puts into the store what is not there yet. No other method may be called after it.
func (r *Registry) Close() error {
	r.mu.Lock()
	r.closed = true
	if r.keep != nil {
		r.keep.Stop()
		r.keep = nil
	}
	r.mu.Unlock()
	r.stop()
	r.follow.Wait()
	return r.keepNow(context.WithoutCancel(r.ctx))
}

// now is the time as exactly as stores keep it.
func (r *Registry) now() time.Time { return r.clock().Truncate(time.Microsecond) }

// NewCode returns a code that enrols one device of user within ttl; 0 means ten minutes. The scope becomes the device's.
func (r *Registry) NewCode(user string, ttl time.Duration, scope Scope) (string, error) {
	now := r.now()
	if err := cmp.Or(CheckUser(user), scope.Check(now)); err != nil {
		return "", err
	}
	text, h := RandomCode()
	c := Code{Hash: h[:], User: user, Expires: now.Add(cmp.Or(ttl, 10*time.Minute)), Scope: scope.sorted()}
	if err := r.store.AddCode(r.ctx, c, now.Add(-remember), maxCodes); err != nil {
		return "", fmt.Errorf("keep the new code: %w", err)
	}
	return text, nil
}

// Device returns the device that has this key, or ErrUnknownDevice, ErrRevoked or ErrDeviceExpired.
func (r *Registry) Device(key ed25519.PublicKey) (Device, error) {
	d, known := r.device(DeviceID(key))
	if !known || !d.Key.Equal(key) {
		return Device{}, ErrUnknownDevice
	}
	if err := d.barred(r.clock()); err != nil {
		return Device{}, err
	}
	return d, nil
}

// Add takes in a device whose person has signed in. One that is known stays the same device, if it is the same person's
// and not revoked.
func (r *Registry) Add(ctx context.Context, d Device) (Device, error) {
	d.ID, d.Enrolled = DeviceID(d.Key), r.now()
	if err := (Enrolment{User: d.User, Key: d.Key, Name: d.Name, Platform: d.Platform}).check(); err != nil {
		return Device{}, err
	}
	if old, known := r.device(d.ID); known {
		if err := old.mayEnrol(Enrolment{Key: d.Key}, d.User); err != nil {
			return Device{}, err
		}
		d.Enrolled, d.LastSeen, d.LastSource, d.Version = old.Enrolled, old.LastSeen, old.LastSource, old.Version
	}
	if err := r.store.Put(ctx, d); err != nil {
		return Device{}, fmt.Errorf("keep the new device: %w", err)
	}
	r.learn(d)
	return d, nil
}

// Learn takes in a device that somebody has just put into the store, before Watch tells of it.
func (r *Registry) Learn(d Device) { r.learn(d) }

// Lookup returns the device of an id, or ErrUnknownDevice or ErrRevoked.
func (r *Registry) Lookup(id string) (Device, error) {
	d, known := r.device(id)
	switch {
	case !known:
		return Device{}, ErrUnknownDevice
	case !d.Revoked.IsZero():
		return Device{}, ErrRevoked
	}
	return d, nil
}

// SignInOf is the sign-in that a device acts by; empty for one that enrolled with a code, and for none.
func (r *Registry) SignInOf(id string) string {
	d, _ := r.device(id)
	return d.SignIn
}

// device returns a device by its id.
func (r *Registry) device(id string) (Device, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	d, known := r.devices[id]
	return d, known
}

// List returns all devices, the revoked ones too, by user and time of enrolment.
func (r *Registry) List() []Device {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]Device, 0, len(r.devices))
	for _, d := range r.devices {
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b Device) int {
		return cmp.Or(cmp.Compare(a.User, b.User), a.Enrolled.Compare(b.Enrolled), cmp.Compare(a.ID, b.ID))
	})
	return list
}

// Revoke ends a device's right to connect, for ever, and tells the watchers. It takes effect here even where the store
// does not answer: the error then says that it is not kept yet, and the registry tries again each minute. To revoke a
// revoked device is no error and tells nobody.
func (r *Registry) Revoke(id string) error {
	d, known := r.device(id)
	if !known {
		return &Error{ErrUnknownDevice.Code, fmt.Sprintf("no device %.80q is enrolled here", id), "sallyport admin devices lists them"}
	}
	if !d.Revoked.IsZero() {
		return nil
	}
	d.Revoked = r.now()
	r.learn(d)
	if err := r.store.Revoke(r.ctx, id, d.Revoked); err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.revoking[id] = d.Revoked
		r.later()
		return notKept(id+" is revoked", err)
	}
	return nil
}

// OnChange has f called from now on, until stop is called, with every device that has ended, and the reason, and without a
// reason with each whose scope is another than before. Between finding a device and watching it that may happen, so watch
// first and call Device after.
func (r *Registry) OnChange(f func(Device, error)) (stop func()) {
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

// Touch notes that a device was seen: where, and with which version of the client. It goes into the store within a
// minute. What does not print is not kept.
func (r *Registry) Touch(id string, source netip.Addr, version string) {
	if CheckLabel("version", version) != nil {
		version = ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d, known := r.devices[id]
	if !known || r.closed {
		return
	}
	d.LastSeen, d.LastSource, d.Version = r.now(), source.String(), version
	r.devices[id] = d
	r.seen[id] = true
	r.later()
}
