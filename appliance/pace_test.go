package appliance

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/frame"
)

// TestPace: who asks in a loop is held up and then refused, while others are answered; after a pause all is as before.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var x paces
		began := time.Now()
		for range asksAtOnce {
			if err := x.wait(t.Context(), "bob"); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the first %d were held up for %v", asksAtOnce, took)
		}
		const all = 3 * asksPerSecond // of which two seconds' worth can be waited for
		refused := make(chan bool, all)
		for range all {
			go func() { refused <- errors.Is(x.wait(t.Context(), "bob"), errTooFast) }()
		}
		n := 0
		for range all {
			if <-refused {
				n++
			}
		}
		if n != asksPerSecond || time.Since(began) != longestPause {
			t.Errorf("%d of %d are refused, and the rest answered after %v", n, all, time.Since(began))
		}
		if err := x.wait(t.Context(), "ann"); err != nil || time.Since(began) != longestPause {
			t.Error("another one waits for bob", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := x.wait(ctx, "bob"); !errors.Is(err, context.Canceled) {
			t.Error("who has gone is waited for", err)
		}
		time.Sleep(time.Minute)
		began = time.Now()
		if err := x.wait(t.Context(), "bob"); err != nil || time.Since(began) != 0 {
			t.Error("a minute later it still holds", err)
		}
	})
}

// TestPaceOfTheAPI: all of a person's devices have one pace, and who is refused for it is told so.
func TestPaceOfTheAPI(t *testing.T) {
	s := newSite(t)
	ask := func(p frame.Peer) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.API(p).ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/me", nil))
		return w
	}
	s.asked.limit("bob").ReserveN(time.Now(), asksAtOnce)
	s.asked.limit("bob").ReserveN(time.Now(), 3*asksPerSecond)
	if w := ask(frame.Peer{User: "bob", Device: "dev-7", Remote: s.peer.Remote}); w.Code != http.StatusTooManyRequests {
		t.Errorf("bob: %d %s", w.Code, w.Body)
	}
	if w := ask(s.peer); w.Code != http.StatusOK {
		t.Errorf("%s: %d %s", s.peer.User, w.Code, w.Body)
	}
}
