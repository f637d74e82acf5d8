package people

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"sallyport/appliance/auth"
)

// TestBrowsers: a browser is known by its secret until that is given up or expires, and while the database is away if it was
// known before.
func TestBrowsers(t *testing.T) {
	a, b, _ := two(t)
	here, there := &Browsers{Store: a}, &Browsers{Store: b}
	remember := func() string {
		t.Helper()
		secret, err := here.Remember(t.Context(), "dev-1", time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	knows := func(b *Browsers, secret string) bool {
		t.Helper()
		device, err := b.Device(t.Context(), secret)
		if err != nil && !errors.Is(err, auth.ErrSignedOut) {
			t.Log(err)
		}
		return err == nil && device == "dev-1"
	}
	known, left, new := remember(), remember(), remember()
	if !knows(there, known) || !knows(there, left) || knows(there, "nobody's") {
		t.Error("a fleet does not know the browsers that it has let in, or knows others")
	}
	if err := here.Forget(t.Context(), left); err != nil || knows(here, left) || knows(there, left) {
		t.Errorf("a secret that is given up is still good: %v", err)
	}

	b.Close()
	if !knows(there, known) || knows(there, left) || knows(there, new) {
		t.Error("without the database those are known who were known before, and they alone")
	}
	for sum := range there.seen {
		there.seen[sum] = seen{"dev-1", time.Now().Add(-time.Second)}
	}
	if knows(there, known) {
		t.Error("a secret that has expired is still good")
	}
	for range maxSeen + 10 {
		there.note(sha256.Sum256([]byte(rand.Text())), seen{"dev-2", time.Now().Add(time.Hour)})
	}
	if len(there.seen) != maxSeen {
		t.Errorf("%d browsers are kept in mind", len(there.seen))
	}
}
