// Package pending keeps what waits for a browser to come back: the server's half of a sign-in at an identity provider,
// of a passkey ceremony, of a person who has got through some of the steps.
//
//	waiting := pending.NewMemory(pending.Config{})
//	err := waiting.Put(ctx, "state-of-128-random-bits", value, 10*time.Minute)
//	value, err := waiting.Look(ctx, "state-of-128-random-bits") // as often as it is needed
//	value, err := waiting.Take(ctx, "state-of-128-random-bits") // once
//
// A value is there for a limited time and can be taken once. There is a bound on how many wait; when it is reached the oldest is
// forgotten, because a flood of begun sign-ins must not keep anybody from beginning one.
package pending

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// ErrUnknown is the answer to a key that is unknown, expired, forgotten or taken.
var ErrUnknown = errors.New("nothing waits under this key: it is unknown, expired or used")

// A Store keeps values until they are taken. A fleet shares one.
type Store interface {
	// Put keeps a value for ttl. Keys are random and never used again.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Look returns a value, or ErrUnknown.
	Look(ctx context.Context, key string) ([]byte, error)
	// Take returns a value and forgets it in one step, or ErrUnknown.
	Take(ctx context.Context, key string) ([]byte, error)
}

// Config bounds a Memory.
type Config struct {
	Max   int              // values at once; default 10,000
	Bytes int              // of all keys and values; default 32 MiB
	Clock func() time.Time // default time.Now
}

func (c Config) withDefaults() Config {
	c.Max = cmp.Or(c.Max, 10_000)
	c.Bytes = cmp.Or(c.Bytes, 32<<20)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	return c
}

// A Memory is the Store of one appliance. A restart forgets what is in it, and people begin again.
type Memory struct {
	config Config

	mu    sync.Mutex
	byKey map[string]*list.Element
	order *list.List // of *item, the oldest in front
	bytes int
}

type item struct {
	key     string
	value   []byte
	expires time.Time
}

func (i *item) size() int { return len(i.key) + len(i.value) }

// NewMemory returns an empty store.
func NewMemory(c Config) *Memory {
	return &Memory{config: c.withDefaults(), byKey: make(map[string]*list.Element), order: list.New()}
}

// Put keeps a value for ttl.
func (m *Memory) Put(_ context.Context, key string, value []byte, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.byKey[key]; known {
		return errors.New("a key of something that waits was used twice")
	}
	i := &item{key, value, m.config.Clock().Add(ttl)}
	if i.size() > m.config.Bytes {
		return errors.New("what is to wait is larger than all that may")
	}
	for m.order.Len() >= m.config.Max || m.bytes+i.size() > m.config.Bytes {
		m.forget(m.order.Front())
	}
	m.byKey[key] = m.order.PushBack(i)
	m.bytes += i.size()
	return nil
}

// Look returns a value.
func (m *Memory) Look(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, known := m.byKey[key]
	if !known || !m.config.Clock().Before(e.Value.(*item).expires) {
		return nil, ErrUnknown
	}
	return e.Value.(*item).value, nil
}

// Take returns a value and forgets it.
func (m *Memory) Take(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, known := m.byKey[key]
	if !known {
		return nil, ErrUnknown
	}
	i := m.forget(e)
	if !m.config.Clock().Before(i.expires) {
		return nil, ErrUnknown
	}
	return i.value, nil
}

// forget takes one out. The caller holds mu.
func (m *Memory) forget(e *list.Element) *item {
	i := m.order.Remove(e).(*item)
	delete(m.byKey, i.key)
	m.bytes -= i.size()
	return i
}
