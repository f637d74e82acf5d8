package people

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/store"
)

// Browsers are those that have signed in, each by the secret of its cookie. Only the secret's hash is kept. What a browser
// may do is what its device may: when that or its sign-in ends, the secret is worth nothing.
//
// While the database is away who was seen before is known still, or no session of theirs could come back.
type Browsers struct {
	Store *store.Store

	mu   sync.Mutex
	seen map[[sha256.Size]byte]seen
}

// A seen is a browser as the database knew it last.
type seen struct {
	device  string
	expires time.Time
}

// maxSeen bounds what is known while the database is away.
const maxSeen = 10_000

const browserKind = "browser"

// Remember returns the secret of a browser that is a device now.
func (b *Browsers) Remember(ctx context.Context, device string, until time.Time) (secret string, err error) {
	secret = rand.Text()
	sum := sha256.Sum256([]byte(secret))
	return secret, b.Store.Keep(ctx, store.OneTime{Kind: browserKind, Hash: sum[:], Data: []byte(device), Expires: until})
}

// Device is the device of a browser, or auth.ErrSignedOut.
func (b *Browsers) Device(ctx context.Context, secret string) (string, error) {
	sum := sha256.Sum256([]byte(secret))
	o, err := b.Store.Look(ctx, browserKind, sum[:], time.Now())
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(err, store.ErrNotFound) {
		delete(b.seen, sum)
		return "", auth.ErrSignedOut
	}
	if err != nil {
		if s, known := b.seen[sum]; known && time.Now().Before(s.expires) {
			return s.device, nil
		}
		return "", err
	}
	b.note(sum, seen{string(o.Data), o.Expires})
	return string(o.Data), nil
}

// note keeps a browser in mind, in place of any other where there are too many.
func (b *Browsers) note(sum [sha256.Size]byte, s seen) {
	if b.seen == nil {
		b.seen = map[[sha256.Size]byte]seen{}
	}
	b.seen[sum] = s
	for other := range b.seen {
		if len(b.seen) <= maxSeen {
			return
		}
		if other != sum {
			delete(b.seen, other)
		}
	}
}

// Forget makes a secret worthless.
func (b *Browsers) Forget(ctx context.Context, secret string) error {
	sum := sha256.Sum256([]byte(secret))
	b.mu.Lock()
	delete(b.seen, sum)
	b.mu.Unlock()
	if _, err := b.Store.Take(ctx, browserKind, sum[:], time.Now()); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}
