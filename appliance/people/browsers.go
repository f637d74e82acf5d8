package people

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"time"

	"sallyport/appliance/auth"
	"sallyport/appliance/store"
)

// Browsers are those that have signed in, each by the secret of its cookie. Only the secret's hash is kept. What a browser
// may do is what its device may: when that or its sign-in ends, the secret is worth nothing.
type Browsers struct{ Store *store.Store }

const browserKind = "browser"

// Remember returns the secret of a browser that is a device now.
func (b Browsers) Remember(ctx context.Context, device string, until time.Time) (secret string, err error) {
	secret = rand.Text()
	sum := sha256.Sum256([]byte(secret))
	return secret, b.Store.Keep(ctx, store.OneTime{Kind: browserKind, Hash: sum[:], Data: []byte(device), Expires: until})
}

// Device is the device of a browser, or auth.ErrSignedOut.
func (b Browsers) Device(ctx context.Context, secret string) (string, error) {
	sum := sha256.Sum256([]byte(secret))
	o, err := b.Store.Look(ctx, browserKind, sum[:], time.Now())
	if errors.Is(err, store.ErrNotFound) {
		return "", auth.ErrSignedOut
	}
	return string(o.Data), err
}

// Forget makes a secret worthless.
func (b Browsers) Forget(ctx context.Context, secret string) error {
	sum := sha256.Sum256([]byte(secret))
	if _, err := b.Store.Take(ctx, browserKind, sum[:], time.Now()); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}
