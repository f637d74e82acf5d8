// Package measure is what the benchmarks beside the code, and the tests of what they allocate, have in common.
package measure

import (
	"io"
	"testing"
)

// Move writes b.N pieces of size bytes to one end of a way and reads them at the other. It reports throughput,
// allocations, and as cpu-s/GiB what both ends cost this process.
func Move(b *testing.B, from io.Writer, to io.Reader, size int) {
	b.Helper()
	out, in := make([]byte, size), make([]byte, size)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	sent := make(chan error, 1)
	begin := cpuTime()
	b.ResetTimer()
	go func() { sent <- write(from, out, b.N) }()
	for range b.N {
		if _, err := io.ReadFull(to, in); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	used := cpuTime() - begin
	if err := <-sent; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(used.Seconds()/(float64(b.N)*float64(size)/(1<<30)), "cpu-s/GiB")
}

func write(w io.Writer, p []byte, times int) error {
	for range times {
		if _, err := w.Write(p); err != nil {
			return err
		}
	}
	return nil
}

// Allocs runs f often, and fails t if one run allocates more often than most times on average, rounded down. Goroutines
// that f sets in motion count. Under the race detector, which allocates by itself, f runs and nothing is judged.
func Allocs(t *testing.T, most float64, f func()) {
	t.Helper()
	const runs = 200
	for range runs / 10 { // what is allocated once
		f()
	}
	if n := testing.AllocsPerRun(runs, f); n > most && !raceDetector {
		t.Errorf("%v allocations, want %v", n, most)
	}
}
