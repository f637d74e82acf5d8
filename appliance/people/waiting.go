package people

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"sallyport/appliance/auth/pending"
	"sallyport/appliance/store"
)

// Waiting is what waits for browsers, in a database that the appliances of a fleet share: a browser may come back to another
// one than it left. It is a pending.Store. What is in it is sealed.
type Waiting struct {
	Store *store.Store
	Box   *Box
	Max   int // values that this appliance has waiting at once; default 10,000. The oldest is forgotten first.

	mu    sync.Mutex
	order []waits // what this appliance has put there, the oldest first
}

// waits is a value that has been put into the database.
type waits struct {
	hash    []byte
	expires time.Time
}

const waitingKind = "waiting for a browser"

// Put implements pending.Store.
func (w *Waiting) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	hash := sha256.Sum256([]byte(key))
	now := time.Now()
	for _, old := range w.note(waits{hash[:], now.Add(ttl)}, now) {
		if _, err := w.Store.Take(ctx, waitingKind, old.hash, now); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return w.Store.Keep(ctx, store.OneTime{Kind: waitingKind, Hash: hash[:], Data: w.Box.Seal(value, waitingLabel(key)), Expires: now.Add(ttl)})
}

// note remembers a value, and returns those for which there is no room any more.
func (w *Waiting) note(n waits, now time.Time) (forget []waits) {
	most := w.Max
	if most == 0 {
		most = 10_000
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.order) > 0 && !now.Before(w.order[0].expires) {
		w.order = w.order[1:]
	}
	w.order = append(w.order, n)
	if over := len(w.order) - most; over > 0 {
		forget, w.order = w.order[:over:over], w.order[over:]
	}
	return forget
}

func waitingLabel(key string) string { return "waits under " + key }

// Look implements pending.Store.
func (w *Waiting) Look(ctx context.Context, key string) ([]byte, error) {
	return w.open(ctx, key, w.Store.Look)
}

// Take implements pending.Store.
func (w *Waiting) Take(ctx context.Context, key string) ([]byte, error) {
	return w.open(ctx, key, w.Store.Take)
}

func (w *Waiting) open(ctx context.Context, key string, get func(context.Context, string, []byte, time.Time) (store.OneTime, error)) ([]byte, error) {
	hash := sha256.Sum256([]byte(key))
	o, err := get(ctx, waitingKind, hash[:], time.Now())
	if errors.Is(err, store.ErrNotFound) {
		return nil, pending.ErrUnknown
	}
	if err != nil {
		return nil, err
	}
	return w.Box.Open(o.Data, waitingLabel(key))
}
