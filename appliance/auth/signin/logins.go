package signin

import (
	"cmp"
	"container/list"
	"context"
	"crypto/ed25519"
	"errors"
	"net/netip"
	"sync"
	"time"

	"sallyport/appliance/auth"
)

// A State is how far a login has got.
type State int

// A login waits, is decided by a person, and if it is confirmed is taken by its device once.
const (
	Waiting State = iota
	Confirmed
	Denied
	Taken
)

// A Login is a device that waits for a person. It is plain data; only its Store changes it.
type Login struct {
	ID       string
	Code     string // eight letters
	Key      ed25519.PublicKey
	Name     string
	Platform string
	Source   netip.Addr
	Started  time.Time
	Expires  time.Time

	Counter uint64    // of the latest poll
	Polled  time.Time // when that was

	State  State
	SignIn string // set when it is confirmed, with the Person
	Person Person
}

// Logins keeps logins until they expire. A fleet shares one.
type Logins interface {
	// Add keeps a login. ErrManyLogins if its source has too many; errCodeInUse if its code is another's.
	Add(ctx context.Context, l Login) error
	// ByCode returns the login of a code; false if there is none that has not expired.
	ByCode(ctx context.Context, code string) (Login, bool, error)
	// Update changes a login in one step that no other Update is in between of, and returns it. An error of change
	// leaves it as it was. ErrUnknownLogin if there is none that has not expired.
	Update(ctx context.Context, id string, change func(*Login) error) (Login, error)
}

// ErrCodeInUse is the answer of Add to a code that a login has already; the caller picks another.
var ErrCodeInUse = errors.New("the code of a login is another login's too")

// MemoryConfig bounds a Memory.
type MemoryConfig struct {
	Max       int // logins at once; default 10,000. The oldest is forgotten first.
	PerSource int // of one IPv4 address or IPv6 /64; default 20
	Clock     func() time.Time
}

func (c MemoryConfig) withDefaults() MemoryConfig {
	c.Max = cmp.Or(c.Max, 10_000)
	c.PerSource = cmp.Or(c.PerSource, 20)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

// A Memory is the Logins of one appliance. A restart forgets what is in it, and people begin again.
type Memory struct {
	config MemoryConfig

	mu       sync.Mutex
	byID     map[string]*list.Element
	byCode   map[string]*list.Element
	bySource map[netip.Prefix]int
	order    *list.List // of *Login, the oldest in front; all live equally long, so it expires first too
}

// NewMemory returns an empty store.
func NewMemory(c MemoryConfig) *Memory {
	return &Memory{
		config: c.withDefaults(), order: list.New(),
		byID: make(map[string]*list.Element), byCode: make(map[string]*list.Element), bySource: make(map[netip.Prefix]int),
	}
}

// Add keeps a login.
func (m *Memory) Add(_ context.Context, l Login) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	source := auth.Network(l.Source)
	switch {
	case m.bySource[source] >= m.config.PerSource:
		return ErrManyLogins
	case m.byCode[l.Code] != nil:
		return ErrCodeInUse
	}
	if m.order.Len() >= m.config.Max {
		m.forget(m.order.Front())
	}
	e := m.order.PushBack(&l)
	m.byID[l.ID], m.byCode[l.Code] = e, e
	m.bySource[source]++
	return nil
}

// ByCode returns the login of a code.
func (m *Memory) ByCode(_ context.Context, code string) (Login, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	e, known := m.byCode[code]
	if !known {
		return Login{}, false, nil
	}
	return *e.Value.(*Login), true, nil
}

// Update changes a login.
func (m *Memory) Update(_ context.Context, id string, change func(*Login) error) (Login, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	e, known := m.byID[id]
	if !known {
		return Login{}, ErrUnknownLogin
	}
	l := *e.Value.(*Login)
	if err := change(&l); err != nil {
		return Login{}, err
	}
	*e.Value.(*Login) = l
	return l, nil
}

// expire forgets what is over. The caller holds mu.
func (m *Memory) expire() {
	now := m.config.Clock()
	for e := m.order.Front(); e != nil && !now.Before(e.Value.(*Login).Expires); e = m.order.Front() {
		m.forget(e)
	}
}

// forget takes one out. The caller holds mu.
func (m *Memory) forget(e *list.Element) {
	l := m.order.Remove(e).(*Login)
	delete(m.byID, l.ID)
	delete(m.byCode, l.Code)
	source := auth.Network(l.Source)
	if m.bySource[source]--; m.bySource[source] == 0 {
		delete(m.bySource, source)
	}
}
