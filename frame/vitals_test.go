package frame

import (
	"testing"
	"time"
)

// TestRTT: the delay of a way is the least that was seen, an answer that an outage held up hardly counts, and a way that
// has become longer is believed in the end.
func TestRTT(t *testing.T) {
	var s Stream
	for _, rtt := range []time.Duration{80 * time.Millisecond, 20 * time.Millisecond, 25 * time.Millisecond} {
		s.measured(rtt)
	}
	if s.rtt < 20*time.Millisecond || s.rtt > 21*time.Millisecond {
		t.Errorf("80, 20 and 25 ms make %v", s.rtt)
	}
	s.measured(3 * time.Second)
	if s.rtt > 24*time.Millisecond {
		t.Errorf("one answer after 3 s made it %v", s.rtt)
	}
	for range 60 {
		s.measured(600 * time.Millisecond)
	}
	if s.rtt < 500*time.Millisecond || s.rtt > 600*time.Millisecond {
		t.Errorf("sixty answers after 600 ms made it %v", s.rtt)
	}
}
