package client

import (
	"slices"
	"time"
)

// RoundTrips are the middle, the tail and the unevenness of many.
type RoundTrips struct {
	P50    time.Duration `json:"p50_ns"`    // half of them take no longer
	P99    time.Duration `json:"p99_ns"`    // nor 99 of 100
	Jitter time.Duration `json:"jitter_ns"` // by how much one differs from the one before, in the mean
	Count  int           `json:"count"`
}

// spreadOf takes round trips in the order in which they were made.
func spreadOf(times []time.Duration) *RoundTrips {
	r := &RoundTrips{P50: percentile(times, 50), P99: percentile(times, 99), Count: len(times)}
	for i := 1; i < len(times); i++ {
		r.Jitter += (times[i] - times[i-1]).Abs()
	}
	r.Jitter /= time.Duration(max(1, len(times)-1))
	return r
}

// percentile is the least of the times that p in a hundred of them do not exceed; 0 of none.
func percentile(times []time.Duration, p int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[(len(sorted)*p+99)/100-1]
}
