package lockout

import (
	"container/list"
	"time"
)

// A table counts failures by key. It holds a bounded number of keys and forgets the one that failed longest ago: to
// make it forget one, as many others have to fail. The Limiter's lock guards it.
type table[K comparable] struct {
	config Config
	byKey  map[K]*list.Element
	recent *list.List // of *record[K], the latest in front
}

type record[K comparable] struct {
	key      K
	failures int
	last     time.Time
}

func newTable[K comparable](c Config) *table[K] {
	return &table[K]{config: c, byKey: make(map[K]*list.Element), recent: list.New()}
}

// penalty is how long nothing is looked at after so many failures.
func (c Config) penalty(failures int) time.Duration {
	p := c.First
	for range failures - c.Free - 1 {
		if p >= c.Most {
			break
		}
		p *= 2
	}
	if failures <= c.Free {
		return 0
	}
	return min(p, c.Most)
}

// wait returns how long the penalty of key still lasts.
func (t *table[K]) wait(key K, now time.Time) time.Duration {
	e, known := t.byKey[key]
	if !known {
		return 0
	}
	r := e.Value.(*record[K])
	return r.last.Add(t.config.penalty(r.failures)).Sub(now)
}

// charge counts a failure of key and returns what takes it back.
func (t *table[K]) charge(key K, now time.Time) (undo func()) {
	e, known := t.byKey[key]
	if !known {
		if t.recent.Len() == t.config.Max {
			oldest := t.recent.Back()
			t.recent.Remove(oldest)
			delete(t.byKey, oldest.Value.(*record[K]).key)
		}
		e = t.recent.PushFront(&record[K]{key: key})
		t.byKey[key] = e
	}
	t.recent.MoveToFront(e)
	r := e.Value.(*record[K])
	before := *r
	r.failures = t.remembered(r, now) + 1
	r.last = now
	return func() { t.undo(key, before, now) }
}

// remembered returns how many failures still count.
func (t *table[K]) remembered(r *record[K], now time.Time) int {
	over := now.Sub(r.last.Add(t.config.penalty(r.failures)))
	if over < 0 {
		return r.failures
	}
	return max(0, r.failures-int(min(over/t.config.Forget, time.Duration(r.failures))))
}

// undo takes back a failure that was counted at a time. Where no other came since, all is as it was before: else whoever
// is right now and then would have what was forgotten by time forgotten twice.
func (t *table[K]) undo(key K, before record[K], at time.Time) {
	e, known := t.byKey[key]
	if !known {
		return
	}
	r := e.Value.(*record[K])
	if r.last.Equal(at) {
		r.failures, r.last = before.failures, before.last
	} else {
		r.failures--
	}
	if r.failures <= 0 {
		t.clear(key)
	}
}

// clear forgets all failures of key.
func (t *table[K]) clear(key K) {
	if e, known := t.byKey[key]; known {
		t.recent.Remove(e)
		delete(t.byKey, key)
	}
}
