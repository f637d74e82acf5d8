package appliance

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/appliance/api"
	"sallyport/frame"
	"sallyport/relay"
)

// TestHealth: what moves is seen as a rate, and an hour of it is kept.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gateway{Version: "1.2.3"}
		busy := 0.0
		go g.Measure(t.Context(), func() float64 { busy += 5; return busy })
		synctest.Wait()
		g.health.ended(relay.Result{Up: 1_000_000, Down: 20})
		time.Sleep(healthEvery)
		synctest.Wait()
		ask := func() api.Health {
			v, err := call{gateway: g}.health()
			if err != nil {
				t.Fatal(err)
			}
			return v.(api.Health)
		}
		h := ask()
		if len(h.Samples) != 1 || h.Version != "1.2.3" || h.Every != 10*time.Second {
			t.Fatalf("%+v", h)
		}
		if s := h.Samples[0]; s.Up != 800_000 || s.Down != 16 || s.CPU != 0.5 || s.Flows != 0 || s.Memory == 0 {
			t.Errorf("%+v", s)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		h = ask()
		if len(h.Samples) != 360 || time.Since(h.Samples[0].Time) > time.Hour || h.Samples[359].Up != 0 {
			t.Errorf("%d samples from %v on", len(h.Samples), h.Samples[0].Time)
		}
	})
}

// TestReached: the latest attempt at a target is what people see of it.
func TestReached(t *testing.T) {
	var r reached
	if r.of("db-1") != nil {
		t.Error("nobody has been there")
	}
	r.note("db-1", dialReason("db-1:22", time.Second, context.DeadlineExceeded))
	if n := r.of("db-1"); n == nil || n.OK || n.Why != "no reply from db-1:22 in 1s" || n.Hint == "" {
		t.Errorf("%+v", n)
	}
	r.note("db-1", nil)
	if n := r.of("db-1"); n == nil || !n.OK || n.Why != "" {
		t.Errorf("%+v", n)
	}
	s := newSite(t)
	if _, _, err := s.open(frame.OpenRequest{Target: "outside", Protocol: "ssh"}); err == nil {
		t.Error("a flow leads out of the VNet")
	}
	if n := s.reached.of("outside"); n == nil || n.OK || !strings.HasPrefix(n.Why, "outside is not reachable: ") {
		t.Errorf("a target whose name leads nowhere good: %+v", n)
	}
}
