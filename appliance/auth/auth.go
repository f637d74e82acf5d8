// Package auth knows the devices that may speak to an appliance and the one-time codes by which they enrol, and keeps
// the appliance's own keys.
//
//	reg, err := auth.Open(ctx, "/var/lib/sallyport", store, time.Now)
//	code, err := reg.NewCode("ann", 10*time.Minute, auth.Scope{}) // shown once, to be typed into sallyport login
//	dev, err := reg.Enrol(auth.Enrolment{Code: typed, Key: pub, Name: "ann's laptop", Source: peer})
//	dev, err := reg.Device(pub)                     // at every connection: who is this?
//	err := reg.Revoke(dev.ID)
//
// # What names a person
//
// A device key names one person; who holds the private key is proved elsewhere, before Device is asked. A code names
// one person and turns into one device, once. Only the code's SHA-256 is kept. A code may have a Scope, which its device
// takes over: the device may do less than its person then, or only for a while.
//
// # Where devices and codes are kept
//
// In a Store, which several appliances may share. A Registry has all devices in memory and answers from there: who
// connects does not wait for the store, and may come in while it does not answer. Codes are looked up in it. The store
// uses up a code and keeps the new device in one step, so that a code is good once on all appliances together. What one
// appliance does to a device the others hear of from the store: a revocation ends the device's flows everywhere.
//
// # Files
//
// The appliance's keys lie in the state folder, which is 0700, in files that are 0600 and replaced as a whole: written
// beside, synced, renamed, and the folder synced. devices.json and codes.json are of older programs, which had no store.
// Open takes them over once and then calls them *.imported. One that cannot be understood stops the start. It is never
// taken for an empty one, which would enrol everyone out.
package auth

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// A Device is a key that names a person.
type Device struct {
	ID       string            // "dev-" and a thumbprint of the key
	User     string            // whom it names
	Name     string            // what the person calls it
	Platform string            // such as "linux/amd64"; may be empty
	Key      ed25519.PublicKey // not to be changed
	Enrolled time.Time

	LastSeen   time.Time // of the latest Touch; zero before the first
	LastSource string    // the address it came from
	Version    string    // of the client

	Revoked time.Time // zero while the device is good
	SignIn  string    // the sign-in that it acts by; empty for one that enrolled with a code
	Scope   Scope     // of the code that it enrolled with
}

// An Error is a no that a person can act on: one plain sentence without a full stop, and what to do.
type Error struct {
	Code     string
	Sentence string
	Hint     string
}

func (e *Error) Error() string { return e.Sentence }

// Is makes errors of the same code equal to errors.Is; their sentences may hold times.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

const newCodeHint = "ask an administrator for a new code"

// The errors of this package that a person sees. Compare with errors.Is.
var (
	ErrCodeUnknown   = &Error{"E_CODE_UNKNOWN", "this enrolment code is not known here", "check it for a slip of the finger, and that this is the right appliance"}
	ErrCodeUsed      = &Error{"E_CODE_USED", "this enrolment code has been used", newCodeHint + "; if it was not you who used it, say so at once"}
	ErrCodeExpired   = &Error{"E_CODE_EXPIRED", "this enrolment code has expired", newCodeHint}
	ErrCodeOtherUser = &Error{"E_CODE_USER", "this enrolment code is for somebody else", "ask an administrator for a code of your own"}
	ErrTooManyTries  = &Error{"E_CODE_LIMIT", "too many wrong enrolment codes from here", "wait a minute and try again"}
	ErrUnknownDevice = &Error{"E_DEVICE_UNKNOWN", "this device is not enrolled here", "run sallyport login with an enrolment code"}
	ErrRevoked       = &Error{"E_DEVICE_REVOKED", "this device has been revoked", "ask an administrator; a new enrolment needs sallyport logout first"}
	ErrDeviceExpired = &Error{"E_DEVICE_EXPIRED", "this device has expired", newCodeHint}
	ErrDeviceTaken   = &Error{"E_DEVICE_USER", "this device is enrolled for somebody else", "run sallyport logout first, which makes a new device key at the next login"}
	ErrLocked        = &Error{"E_LOCKED", "you are locked out", "ask an administrator"}
	ErrControlDown   = &Error{"E_CONTROL_DOWN", "the appliance's database does not answer", "what is open goes on; try again in a moment"}
	ErrName          = &Error{"E_NAME", "not a valid name", ""}
)

// notKept says that something has happened on this appliance, and that the store has not taken it.
func notKept(what string, err error) error {
	return fmt.Errorf("%w (%w)", &Error{ErrControlDown.Code, what + " on this appliance, and not kept yet: its database does not take it",
		"it is kept once the database does, unless the appliance is started again before"}, err)
}

var userName = regexp.MustCompile(`^[a-z0-9._@-]{1,64}$`)

// CheckUser returns nil if name may be a person's, else an error that is ErrName.
func CheckUser(name string) error {
	if !userName.MatchString(name) {
		return &Error{ErrName.Code, "a user name is 1 to 64 of a-z, 0-9, dot, dash, _ and @", fmt.Sprintf("%.80q is not one", name)}
	}
	return nil
}

// maxLabel bounds what a device says of itself: its name, platform, version.
const maxLabel = 64

// CheckLabel returns nil for what a device may say of itself, at most 64 bytes of text that prints as itself: no control
// characters, no marks that turn the direction of text.
func CheckLabel(what, s string) error {
	bad := func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	if len(s) > maxLabel || strings.ContainsFunc(s, bad) {
		return &Error{ErrName.Code, fmt.Sprintf("a %s is at most %d printable characters", what, maxLabel), fmt.Sprintf("%.80q is not one", s)}
	}
	return nil
}

// DeviceID returns the id of the device that has this key: 13 characters that stand for 64 bits of its SHA-256.
func DeviceID(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return "dev-" + strings.ToLower(crockford.EncodeToString(sum[:8]))
}
