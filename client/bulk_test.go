package client

import (
	"slices"
	"testing"
	"time"

	"sallyport/frame"
)

// A pace is what a flow does while a bulk watches it.
type pace struct {
	*bulk
	now    time.Time
	moved  uint64
	onQUIC bool
	rtt    time.Duration
}

func newPace() *pace {
	return &pace{bulk: &bulk{}, now: time.Unix(1, 0), onQUIC: true, rtt: 20 * time.Millisecond}
}

// runs moves bytes for a time, as a keeper that looks twice a second sees it, until the flow should be moved.
func (p *pace) runs(span time.Duration, mibs uint64) (frame.Why, bool) {
	const tick = 500 * time.Millisecond
	for ; span > 0; span -= tick {
		p.now = p.now.Add(tick)
		p.moved += mibs << 20 / 2
		if why, ok := p.look(p.now, p.moved, p.onQUIC, p.rtt); ok {
			return why, true
		}
	}
	return 0, false
}

func TestBulkStays(t *testing.T) {
	p := newPace()
	for _, quiet := range []uint64{0, 15} {
		if why, ok := p.runs(time.Minute, quiet); ok {
			t.Fatalf("%d MiB/s are reason to move, %v", quiet, why)
		}
	}
	if _, ok := p.runs(500*time.Millisecond, 100); ok || p.holds() {
		t.Fatal("moved for a moment's bytes")
	}
	p.runs(10*time.Second, 1)
	p.moves(t)
	p.runs(500*time.Millisecond, 10) // finds its pace
	if why, ok := p.runs(time.Hour, 98); ok || !p.holds() {
		t.Fatalf("as fast as before, but %v", why)
	}
	if why, ok := p.runs(time.Hour, 0); ok || !p.holds() {
		t.Fatalf("a decision that does not last: %v", why)
	}
}

// moves is a trial: much on QUIC, and HTTPS is to be had.
func (p *pace) moves(t *testing.T) {
	t.Helper()
	if why, ok := p.runs(5*time.Second, 100); !ok || why != frame.WhyBulk || !p.holds() {
		t.Fatalf("100 MiB/s: %v, %v", why, ok)
	}
	p.tried(true)
	p.onQUIC = false
}

// TestBulkFar: over a long way a flow that moves less, but all the time, is tried too, and stays only if that helps.
func TestBulkFar(t *testing.T) {
	for _, c := range []struct {
		after uint64 // MiB a second on HTTPS
		want  frame.Why
	}{{20, 0}, {5, 0}, {4, frame.WhySlower}, {1, frame.WhySlower}} {
		p := newPace()
		p.rtt = 180 * time.Millisecond
		if why, ok := p.runs(4*time.Second, 4); ok {
			t.Fatalf("at once %v", why)
		}
		if why, ok := p.runs(2*time.Second, 4); !ok || why != frame.WhyBulk {
			t.Fatalf("then %v, %v", why, ok)
		}
		p.tried(true)
		p.onQUIC = false
		if why, _ := p.runs(time.Minute, c.after); why != c.want || p.holds() != (why == 0) {
			t.Errorf("4 MiB/s on QUIC, %d on HTTPS: %v", c.after, why)
		}
	}

	p := newPace()
	p.rtt = 180 * time.Millisecond
	for range 20 { // somebody works
		for _, mibs := range []uint64{2, 2, 2, 2, 0, 2, 2, 0} {
			if why, ok := p.runs(500*time.Millisecond, mibs); ok {
				t.Fatalf("moves now and then: %v", why)
			}
		}
	}
	p = newPace()
	p.rtt = 180 * time.Millisecond
	if why, ok := p.runs(3*time.Second, 100); !ok || why != frame.WhyBulk || p.before != 100<<20 {
		t.Fatalf("much over a long way: %v, %v, %v bytes a second", why, ok, p.before)
	}
}

// TestBulkPauses: a source that pauses says nothing about HTTPS.
func TestBulkPauses(t *testing.T) {
	p := newPace()
	p.moves(t)
	if why, ok := p.runs(time.Second, 100); ok {
		t.Fatalf("at once %v", why)
	}
	for range 3 {
		if why, ok := p.runs(1500*time.Millisecond, 0); ok {
			t.Fatalf("a pause: %v", why)
		}
		if why, ok := p.runs(500*time.Millisecond, 100); ok {
			t.Fatalf("after a pause: %v", why)
		}
	}
	if why, ok := p.runs(10*time.Second, 30); !ok || why != frame.WhySlower {
		t.Fatalf("then slower, but %v, %v", why, ok)
	}
	p = newPace()
	p.moves(t)
	if why, ok := p.runs(time.Hour, 0); ok || p.stage != stays {
		t.Fatalf("nothing more to move: %v, stage %d", why, p.stage)
	}
}

// TestBulkCutOff: where connections over HTTPS are cut, or the network goes, the trial is not repeated soon.
func TestBulkCutOff(t *testing.T) {
	p := newPace()
	begin := p.now
	trials := 0
	for p.now.Sub(begin) < 4*time.Hour {
		if _, ok := p.runs(time.Minute, 100); !ok {
			continue
		}
		trials++
		p.tried(true)
		p.onQUIC = false
		p.runs(3*time.Second, 100)
		p.lost(p.now)
		p.onQUIC = true
	}
	if trials < 5 || trials > 10 {
		t.Errorf("%d trials in four hours", trials)
	}
	p = newPace()
	p.runs(1500*time.Millisecond, 100)
	p.lost(p.now) // on QUIC: no reason to wait
	p.moves(t)
}

func TestBulkSlower(t *testing.T) {
	p := newPace()
	p.moves(t)
	if why, ok := p.runs(10*time.Second, 90); !ok || why != frame.WhySlower || p.holds() {
		t.Fatalf("slower: %v, %v", why, ok)
	}
	p.onQUIC = true
	if why, ok := p.runs(time.Hour, 100); ok {
		t.Fatalf("a second time: %v", why)
	}
}

func TestBulkNotToBeHad(t *testing.T) {
	p := newPace()
	p.runs(5*time.Second, 100)
	p.tried(false)
	if why, ok := p.runs(time.Hour, 100); ok || p.holds() {
		t.Fatalf("tried again: %v", why)
	}
	other := newPace()
	other.onQUIC = false
	if why, ok := other.runs(time.Hour, 1000); ok {
		t.Fatalf("on HTTPS already: %v", why)
	}
	var none *bulk
	if none.lost(time.Time{}); none.holds() {
		t.Fatal("holds what it does not watch")
	}
}

// TestBulkMoves: a keeper moves a flow that carries much, and takes it back if that was no good. A better way is none for a
// flow that is on HTTPS because it carries much.
func TestBulkMoves(t *testing.T) {
	for _, c := range []struct {
		name    string
		noHTTPS bool
		slow    bool // HTTPS is
		want    []frame.Why
	}{
		{"faster", false, false, []frame.Why{frame.WhyBulk}},
		{"slower", false, true, []frame.Why{frame.WhyBulk, frame.WhySlower}},
		{"not there", true, false, []frame.Why{frame.WhyBulk}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sail(t, time.Hour, func(t *testing.T, v *voyage) {
				v.noHTTPS.Store(c.noHTTPS)
				stop := time.Now().Add(15 * time.Second)
				buf := make([]byte, 1<<20)
				for time.Now().Before(stop) {
					if _, err := v.client.Write(buf); err != nil {
						t.Fatal(err)
					}
					switch {
					case v.quic():
						time.Sleep(15 * time.Millisecond)
					case c.slow:
						time.Sleep(30 * time.Millisecond)
					default:
						time.Sleep(10 * time.Millisecond)
					}
				}
				v.mu.Lock()
				defer v.mu.Unlock()
				if !slices.Equal(v.whys, c.want) {
					t.Errorf("moved for %v, want %v", v.whys, c.want)
				}
			})
		})
	}
}
