package auth

import (
	"context"
	"errors"
	"time"
)

// A Store is where a registry keeps devices and codes, which other appliances of a fleet may do too. An error that is
// ErrControlDown says that it does not answer.
type Store interface {
	Devices(context.Context) ([]Device, error)
	Device(ctx context.Context, id string) (Device, error) // ErrUnknownDevice if there is none

	// Put adds a device, or renews one of the same key and person that is not revoked. ErrRaced says that it may not.
	Put(context.Context, Device) error

	// Revoke ends a device for ever. To revoke a revoked one is no error.
	Revoke(ctx context.Context, id string, at time.Time) error

	// Seen keeps LastSeen, LastSource and Version of devices.
	Seen(context.Context, []Device) error

	// AddCode adds a code and forgets those that expired before forget. More than most are an error.
	AddCode(ctx context.Context, c Code, forget time.Time, most int) error
	Code(ctx context.Context, hash []byte) (Code, error) // ErrCodeUnknown if there is none

	// Enrol uses up a code and puts the device: both or neither. ErrRaced says that code or device are not as they were read.
	Enrol(ctx context.Context, hash []byte, d Device, now time.Time) error

	// Import adds what is not there yet.
	Import(context.Context, []Device, []Code) error

	// Watch calls f with the id of each device that anybody has changed, or with "" where it may be any, until ctx ends.
	// What f returns an error for it is told again.
	Watch(ctx context.Context, f func(id string) error) error
}

// A Code is what is kept of an enrolment code.
type Code struct {
	Hash    []byte // SHA-256
	User    string
	Expires time.Time
	Used    time.Time // zero while it is good
	By      string    // the device that used it
	Scope   Scope     // of the device that enrols with it
}

// ErrRaced says that somebody else was faster.
var ErrRaced = errors.New("code or device have changed meanwhile")
