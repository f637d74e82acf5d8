package auth

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Memory is a Store that forgets everything at the end of the process, for tests. The zero value is empty.
type Memory struct {
	mu       sync.Mutex
	devices  map[string]Device
	codes    []Code
	watchers map[*memoryWatch]bool
}

type memoryWatch struct {
	ids  []string // not told yet
	wake chan struct{}
}

// Devices implements Store.
func (m *Memory) Devices(context.Context) ([]Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Values(m.devices)), nil
}

// Device implements Store.
func (m *Memory) Device(_ context.Context, id string) (Device, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, known := m.devices[id]
	if !known {
		return d, ErrUnknownDevice
	}
	return d, nil
}

// Put implements Store.
func (m *Memory) Put(_ context.Context, d Device) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, known := m.devices[d.ID]; known && (!old.Revoked.IsZero() || old.User != d.User) {
		return ErrRaced
	}
	m.put(d)
	return nil
}

// Revoke implements Store.
func (m *Memory) Revoke(_ context.Context, id string, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, known := m.devices[id]
	if !known {
		return ErrUnknownDevice
	}
	if d.Revoked.IsZero() {
		d.Revoked = at
		m.put(d)
	}
	return nil
}

// Seen implements Store.
func (m *Memory) Seen(_ context.Context, seen []Device) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range seen {
		if d, known := m.devices[s.ID]; known {
			d.LastSeen, d.LastSource, d.Version = s.LastSeen, s.LastSource, s.Version
			m.devices[s.ID] = d
		}
	}
	return nil
}

// AddCode implements Store.
func (m *Memory) AddCode(_ context.Context, c Code, forget time.Time, most int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.codes = slices.DeleteFunc(m.codes, func(c Code) bool { return c.Expires.Before(forget) })
	if len(m.codes) >= most {
		return fmt.Errorf("there are %d codes", len(m.codes))
	}
	m.codes = append(m.codes, c)
	return nil
}

// Code implements Store.
func (m *Memory) Code(_ context.Context, hash []byte) (Code, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.index(hash); i >= 0 {
		return m.codes[i], nil
	}
	return Code{}, ErrCodeUnknown
}

func (m *Memory) index(hash []byte) int {
	return slices.IndexFunc(m.codes, func(c Code) bool { return bytes.Equal(c.Hash, hash) })
}

// Enrol implements Store.
func (m *Memory) Enrol(_ context.Context, hash []byte, d Device, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.index(hash)
	if i < 0 {
		return ErrCodeUnknown
	}
	old, known := m.devices[d.ID]
	if !m.codes[i].Used.IsZero() || !now.Before(m.codes[i].Expires) || known && (!old.Revoked.IsZero() || old.User != d.User) {
		return ErrRaced
	}
	m.codes[i].Used, m.codes[i].By = now, d.ID
	m.put(d)
	return nil
}

// Import implements Store.
func (m *Memory) Import(_ context.Context, devices []Device, codes []Code) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range devices {
		if _, known := m.devices[d.ID]; !known {
			m.put(d)
		}
	}
	for _, c := range codes {
		if m.index(c.Hash) < 0 {
			m.codes = append(m.codes, c)
		}
	}
	return nil
}

// put has the watchers told. The caller holds mu.
func (m *Memory) put(d Device) {
	if m.devices == nil {
		m.devices = map[string]Device{}
	}
	m.devices[d.ID] = d
	for w := range m.watchers {
		w.ids = append(w.ids, d.ID)
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}

// Watch implements Store.
func (m *Memory) Watch(ctx context.Context, f func(string) error) error {
	w := &memoryWatch{ids: []string{""}, wake: make(chan struct{}, 1)}
	m.mu.Lock()
	if m.watchers == nil {
		m.watchers = map[*memoryWatch]bool{}
	}
	m.watchers[w] = true
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.watchers, w)
	}()
	for {
		m.mu.Lock()
		ids := w.ids
		w.ids = nil
		m.mu.Unlock()
		for _, id := range ids {
			for f(id) != nil && ctx.Err() == nil {
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.wake:
		}
	}
}
