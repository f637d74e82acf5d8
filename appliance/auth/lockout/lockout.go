// Package lockout slows down those who guess passwords and codes, without locking out the person whose account they
// guess at.
//
//	try, err := limiter.Begin(lockout.Attempt{Account: "ann", Source: peer, Device: device})
//	if err != nil { … } // ErrWait: says how long
//	… // look at the password
//	try.Succeed() // or try.Cancel() where nothing was looked at; doing neither is a failure
//
// # Penalties
//
// Failures are counted for the account and for the source, which is an IPv4 address or an IPv6 /64. Four are free. The
// fifth costs a second in which nothing is looked at, and each one more doubles that, up to a quarter of an hour. A
// failure is forgotten a quarter of an hour after its penalty has ended. So whoever guesses at one account gets about a
// hundred guesses a day, from however many sources, and whoever guesses from one source gets as many at all accounts.
// A success forgives the account; the source is forgiven only by time, else an attacker with an account of their own
// could wash their source clean.
//
// # Why begin and end
//
// Begin counts the attempt as a failure before anything is looked at. A thousand attempts at once are therefore a
// thousand failures, not a thousand free ones that were all let through before the first had failed.
//
// # The person meanwhile
//
// An account that strangers guess at is closed to strangers, and it would be closed to its owner too. So a browser from
// which somebody has signed in gets a cookie (Cookies) that names this account and a device. Attempts that come with it
// are counted for that device alone: others' failures, even from the same office, do not hold them up, and their
// failures hold up nobody else. This is the device cookie of OWASP's guide. The cookie gives no right to anything; a
// stolen one is worth the guesses of one device.
package lockout

import (
	"cmp"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"sallyport/appliance/auth"
)

// ErrWait is what the errors of Begin are to errors.Is. They are *Wait.
var ErrWait = &auth.Error{Code: "E_LOGIN_WAIT", Sentence: "too many failed attempts", Hint: "wait and try again"}

// A Wait is the answer to an attempt that comes during a penalty.
type Wait struct {
	For time.Duration // at least a second
}

func (w *Wait) Error() string { return w.person().Error() }

// Unwrap returns what a person is told.
func (w *Wait) Unwrap() error { return w.person() }

func (w *Wait) person() *auth.Error {
	return &auth.Error{Code: ErrWait.Code, Sentence: ErrWait.Sentence + "; the next is looked at in " + w.For.String(),
		Hint: "a browser in which you have signed in before is not held up"}
}

// Config sets the penalties.
type Config struct {
	Free   int           // failures without a penalty; default 4
	First  time.Duration // the first penalty; default 1 second
	Most   time.Duration // the longest; default 15 minutes
	Forget time.Duration // after the end of a penalty one failure is forgotten each; default 15 minutes
	Max    int           // accounts, sources and devices that are remembered, of each; default 65,536, about 15 MB of each
	Clock  func() time.Time
}

func (c Config) withDefaults() Config {
	c.Free = cmp.Or(c.Free, 4)
	c.First = cmp.Or(c.First, time.Second)
	c.Most = cmp.Or(c.Most, 15*time.Minute)
	c.Forget = cmp.Or(c.Forget, 15*time.Minute)
	c.Max = cmp.Or(c.Max, 65536)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

// A Limiter counts failures. Its methods may be called by many goroutines.
type Limiter struct {
	config Config

	mu       sync.Mutex
	accounts *table[name]
	sources  *table[netip.Prefix]
	devices  *table[name]
}

// A name stands for an account or for a device of one. Accounts that do not exist have names too, as long as anybody
// likes; their hash has one length.
type name [sha256.Size]byte

// New returns a Limiter that has seen no failures.
func New(c Config) *Limiter {
	c = c.withDefaults()
	return &Limiter{
		config:   c,
		accounts: newTable[name](c),
		sources:  newTable[netip.Prefix](c),
		devices:  newTable[name](c),
	}
}

// An Attempt is somebody who wants to try a password or a code.
type Attempt struct {
	Account string     // as typed; it need not exist
	Source  netip.Addr // where the attempt comes from
	Device  string     // what Cookies.Check returned for this account; empty for a stranger
}

// A Try is an attempt that may be looked at. Until it ends it counts as failed.
type Try struct {
	limiter *Limiter
	forgive func() // the account or the device
	undo    func()
}

// Begin lets an attempt through and counts it as a failure, or returns a *Wait and counts nothing.
func (l *Limiter) Begin(a Attempt) (*Try, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.config.Clock()
	if a.Device != "" {
		key := nameOf(a.Account + "\x00" + a.Device)
		if left := l.devices.wait(key, now); left > 0 {
			return nil, newWait(left)
		}
		undo := l.devices.charge(key, now)
		return &Try{l, func() { l.devices.clear(key) }, undo}, nil
	}
	account, source := nameOf(a.Account), auth.Network(a.Source)
	if left := max(l.accounts.wait(account, now), l.sources.wait(source, now)); left > 0 {
		return nil, newWait(left)
	}
	undoAccount, undoSource := l.accounts.charge(account, now), l.sources.charge(source, now)
	return &Try{
		limiter: l,
		forgive: func() { l.accounts.clear(account); undoSource() },
		undo:    func() { undoAccount(); undoSource() },
	}, nil
}

// Succeed forgives the account all of its failures, and the source this one.
func (t *Try) Succeed() {
	t.limiter.mu.Lock()
	defer t.limiter.mu.Unlock()
	t.forgive()
}

// Cancel takes the attempt back: nothing was looked at.
func (t *Try) Cancel() {
	t.limiter.mu.Lock()
	defer t.limiter.mu.Unlock()
	t.undo()
}

func nameOf(text string) name { return sha256.Sum256([]byte(text)) }

// newWait rounds up to the second that people are told.
func newWait(left time.Duration) *Wait {
	return &Wait{For: (left + time.Second - 1).Truncate(time.Second)}
}
