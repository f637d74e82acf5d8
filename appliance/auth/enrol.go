package auth

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

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
	r.enrolling.Lock()
	defer r.enrolling.Unlock()
	now := r.now()
	if !r.limit.allow(e.Source, now) {
		return Device{}, ErrTooManyTries
	}
	if ago := now.Sub(r.down); ago >= 0 && ago < downFor {
		return Device{}, ErrControlDown
	}
	d, err := r.enrol(e, now)
	for range 2 { // others have used the code, or changed the device: it is theirs to say what holds now
		if errors.Is(err, ErrRaced) {
			d, err = r.enrol(e, now)
		}
	}
	switch {
	case err == nil:
		r.learn(d)
	case errors.Is(err, ErrControlDown):
		r.down = now
	case slices.ContainsFunc(wrongCodes, func(wrong error) bool { return errors.Is(err, wrong) }):
		r.limit.fail(e.Source, now)
	}
	return d, err
}

// wrongCodes are the errors of who has no good code.
var wrongCodes = []error{ErrCodeUnknown, ErrCodeUsed, ErrCodeExpired, ErrCodeOtherUser}

func (r *Registry) enrol(e Enrolment, now time.Time) (Device, error) {
	h, ok := HashCode(e.Code)
	if !ok {
		return Device{}, ErrCodeUnknown
	}
	c, err := r.store.Code(r.ctx, h[:])
	if err != nil {
		return Device{}, err
	}
	if err := c.good(e, now); err != nil {
		return Device{}, err
	}
	d, err := r.store.Device(r.ctx, DeviceID(e.Key))
	switch {
	case errors.Is(err, ErrUnknownDevice):
		d = Device{ID: DeviceID(e.Key), Key: slices.Clone(e.Key), Enrolled: now}
	case err != nil:
		return Device{}, err
	default:
		if err := d.mayEnrol(e, c.User); err != nil {
			return Device{}, err
		}
	}
	d.User, d.Name, d.Platform, d.Scope = c.User, e.Name, e.Platform, c.Scope
	d.SignIn = "" // the code stands for itself, also where a sign-in of before is over
	if err := r.store.Enrol(r.ctx, h[:], d, now); err != nil {
		return Device{}, fmt.Errorf("keep the new device: %w", err)
	}
	return d, nil
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

// good returns why a code does not enrol, or nil.
func (c Code) good(e Enrolment, now time.Time) error {
	switch {
	case now.After(c.Expires.Add(remember)):
		return ErrCodeUnknown
	case !c.Used.IsZero():
		return ErrCodeUsed
	case !now.Before(c.Expires):
		no := *ErrCodeExpired
		if ago := now.Sub(c.Expires).Truncate(time.Minute); ago > 0 {
			no.Sentence += fmt.Sprintf(" %s ago", ago)
		}
		return &no
	case c.Scope.Over(now):
		return ErrCodeExpired // before its device would come in
	case e.User != "" && e.User != c.User:
		return ErrCodeOtherUser
	}
	return nil
}

// mayEnrol returns why a device that is known already may not enrol with a code of user's.
func (d Device) mayEnrol(e Enrolment, user string) error {
	switch {
	case !d.Key.Equal(e.Key):
		return fmt.Errorf("another device has the id %s; make a new device key", d.ID)
	case !d.Revoked.IsZero():
		return ErrRevoked
	case d.User != user:
		return ErrDeviceTaken
	}
	return nil
}
