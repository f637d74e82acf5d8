// Package signin ties a command that wants to enrol its device to a browser in which a person signs in.
//
//	the command                                      a browser, of any machine
//	started := s.Start(device key, name)
//	   shows started.Path and started.Code
//	                                                 view  := s.Open(code)              which device asks, from where
//	                                                 visit := s.Password(…), s.TOTP(…)  or a passkey
//	                                                 visit := s.FinishProvider(…)       or an identity provider
//	                                                 s.Confirm(visit, code)             "yes, this is my device"
//	poll := s.Poll(id, counter, signature)
//	   poll.Enrolment, once
//
// The methods are steps with plain inputs and outputs; whoever calls them speaks HTTP or frames. Each is either
// idempotent or refuses to be done twice.
//
// # What binds the two
//
// A login belongs to one device key. Polls are signed by it, over a context string, the login's id and a counter that
// only goes up, so whoever sees a poll can do nothing with it. The enrolment is for that key and no other, so who polls
// with a stolen id gets nothing.
//
// # What a person must look at
//
// A code can be sent to somebody else: "please open this page and confirm". No protocol sees that; the person does. So
// the page shows the device's name and the address that it asks from, and nothing is enrolled before the person has
// said yes to both. The code is short because people compare and type it. Guesses at codes are counted by source.
//
// # Steps in the browser
//
// A visit is what a browser has shown so far. Its secret changes with every step that gains something: one that somebody
// planted in the browser before is worth nothing after. It belongs into a cookie that scripts do not see.
//
// # Second factors
//
// A local account signs in with a password and then a one-time code, a recovery code or a passkey; or with a passkey
// alone, which is two factors. A wrong name, a wrong password and an account without a password look and take the same.
package signin

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net/netip"
	"net/url"
	"time"

	"sallyport/appliance/auth/lockout"
	"sallyport/appliance/auth/oidc"
	"sallyport/appliance/auth/passkey"
	"sallyport/appliance/auth/password"
	"sallyport/appliance/auth/pending"
)

const (
	loginTime    = 10 * time.Minute
	visitTime    = 10 * time.Minute
	pollInterval = 2 * time.Second
)

// An Account is a person who signs in here, without an identity provider.
type Account struct {
	User     string
	Groups   []string
	Password string     // of password.Hasher; empty if there is none
	TOTP     string     // the secret; empty if there is none
	Recovery [][32]byte // the recovery codes that are left
	Handle   []byte     // of passkey.NewHandle
	Passkeys []passkey.Credential
	Locked   bool

	ValidFrom time.Time // who has signed in before is not signed in any more
}

// PasskeyUser is the account as authenticators see it.
func (a Account) PasskeyUser() passkey.User {
	return passkey.User{Handle: a.Handle, Name: a.User, Credentials: a.Passkeys}
}

// Accounts is what this package needs of the store of accounts.
type Accounts interface {
	// Account returns a local account; false if there is none.
	Account(ctx context.Context, user string) (Account, bool, error)
	// AccountByHandle returns the one that has this passkey handle.
	AccountByHandle(ctx context.Context, handle []byte) (Account, bool, error)
	// UseTOTP notes a counter of one-time codes, in one step. False if it is not above all that were used.
	UseTOTP(ctx context.Context, user string, counter uint64) (bool, error)
	// UseRecovery removes a recovery code, in one step. False if it was not there any more.
	UseRecovery(ctx context.Context, user string, code [32]byte) (bool, error)
	// SetPassword replaces what is kept of a password, if it is still what it was.
	SetPassword(ctx context.Context, user, was, is string) error
	// SetPasskey replaces a passkey of an account by its id.
	SetPasskey(ctx context.Context, user string, c passkey.Credential) error
	// Bind makes a user name belong to the issuer and subject that came with it first. ErrNameTaken if it belongs to
	// others or to a local account, ErrLocked if it is locked.
	Bind(ctx context.Context, who oidc.Identity) error
}

// Providers are the identity providers; *oidc.Set is one.
type Providers interface {
	Begin(ctx context.Context, provider, browser string, fresh bool) (string, error)
	Finish(ctx context.Context, provider, browser string, answer url.Values) (oidc.Identity, error)
}

// Config has the parts that a Service is made of. Only Accounts and Cookies have no default.
type Config struct {
	Accounts  Accounts
	Providers Providers             // nil if there are none
	Passkeys  *passkey.RelyingParty // nil if there are none
	Passwords *password.Hasher
	Cookies   *lockout.Cookies
	Failures  *lockout.Limiter // of passwords and second factors
	Guesses   *lockout.Limiter // of codes
	Logins    Logins
	Visits    pending.Store

	// PasswordAlone lets accounts in that have no second factor. A sign-in by a password alone is not multi-factor.
	PasswordAlone bool

	Clock func() time.Time // default time.Now
}

func (c Config) withDefaults() Config {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Passwords == nil {
		c.Passwords = password.New(password.Config{})
	}
	if c.Failures == nil {
		c.Failures = lockout.New(lockout.Config{Clock: c.Clock})
	}
	if c.Guesses == nil {
		c.Guesses = lockout.New(lockout.Config{Clock: c.Clock})
	}
	if c.Logins == nil {
		c.Logins = NewMemory(MemoryConfig{Clock: c.Clock})
	}
	if c.Visits == nil {
		c.Visits = pending.NewMemory(pending.Config{Clock: c.Clock})
	}
	return c
}

// A Service is the sign-in of an appliance.
type Service struct{ Config }

// New returns a Service.
func New(c Config) *Service { return &Service{c.withDefaults()} }

// A Person is somebody who has signed in, and how.
type Person struct {
	User     string
	Groups   []string
	Method   string    // "password", "password+totp", "password+recovery", "password+passkey", "passkey" or "oidc:" and the provider
	AuthTime time.Time // when they signed in, perhaps at an identity provider
	Here     time.Time // when they did here
	MFA      time.Time // when they showed two factors; zero if they did not

	Issuer  string       // of an identity provider; empty for a local account
	Session oidc.Session // to refresh by; secret
}

// An Enrolment is the outcome of a login: this device is this person's.
type Enrolment struct {
	SignIn   string // an id of its own, for tokens and for ending them
	Key      ed25519.PublicKey
	Name     string
	Platform string
	Source   netip.Addr
	Person   Person
}

// NewBrowser returns the secret by which a browser is known while it is at an identity provider.
func NewBrowser() string { return rand.Text() }
