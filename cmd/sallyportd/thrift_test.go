package main

import (
	"testing"
	"time"
)

// TestThrift: memory is given back a few times after work, not during it, and not again and again.
func TestThrift(t *testing.T) {
	var x thrift
	now := time.Unix(1, 0)
	count := func(ticks int, cpus float64) (n int) {
		for range ticks {
			now = now.Add(thriftEvery)
			if x.due(now, cpus) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		what  string
		ticks int
		cpus  float64
		want  int
	}{
		{"nothing has happened", 100, 0, 0},
		{"work", 100, 1, 0},
		{"quiet", 100, 0.001, thriftTimes},
		{"a little", 100, 0.01, 0},
		{"work again", 1, 0.5, 0},
		{"quiet again", 2, 0, 2},
		{"work between", 1, 1, 0},
		{"then the rest, and nothing more soon", 3, 0, 2},
		{"a series later", 100, 0, thriftTimes},
	} {
		if n := count(c.ticks, c.cpus); n != c.want {
			t.Errorf("%s: %d times, want %d", c.what, n, c.want)
		}
	}
	if before := cpuSeconds(); before <= 0 {
		t.Error("the system does not tell the CPU time")
	}
}
