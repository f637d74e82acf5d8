package appliance

import (
	"strconv"
	"testing"
)

// TestRoll: what is remembered of somebody stays, and of how many is bounded.
func TestRoll(t *testing.T) {
	var r roll[int]
	begun := 0
	begin := func() *int { begun++; return new(int) }
	ann := r.of("ann", begin)
	if r.of("ann", begin) != ann || begun != 1 {
		t.Errorf("begun %d times", begun)
	}
	for i := range maxRoll {
		r.of(strconv.Itoa(i), begin)
	}
	if len(r) > maxRoll || begun != maxRoll+1 {
		t.Errorf("%d are remembered, %d were begun", len(r), begun)
	}
}
