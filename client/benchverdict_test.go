package client

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	times := func(ms ...int) (list []time.Duration) {
		for _, n := range ms {
			list = append(list, time.Duration(n)*time.Millisecond)
		}
		return list
	}
	var hundred []int
	for i := range 100 {
		hundred = append(hundred, 100-i)
	}
	for _, tt := range []struct {
		times []time.Duration
		want  RoundTrips // in milliseconds
	}{
		{times(7), RoundTrips{7, 7, 0, 1}},
		{times(10, 20), RoundTrips{10, 20, 10, 2}},
		{times(10, 20, 10, 30), RoundTrips{10, 30, 13, 4}},
		{times(5, 5, 5), RoundTrips{5, 5, 0, 3}},
		{times(hundred...), RoundTrips{50, 99, 1, 100}},
	} {
		got := *spreadOf(tt.times)
		got.P50, got.P99, got.Jitter = got.P50/time.Millisecond, got.P99/time.Millisecond, got.Jitter/time.Millisecond
		if got != tt.want {
			t.Errorf("%v: %+v, want %+v", tt.times, got, tt.want)
		}
	}
	if got := percentile(nil, 50); got != 0 {
		t.Errorf("of none: %v", got)
	}
}

func TestRate(t *testing.T) {
	for bits, want := range map[int64]string{0: "0.0 kbit/s", 56_000: "56 kbit/s", 1_500_000: "1.5 Mbit/s", 93_400_000: "93 Mbit/s", 2_400_000_000: "2.4 Gbit/s", 100_000_000_000: "100 Gbit/s"} {
		if got := Rate(bits); got != want {
			t.Errorf("%d: %s, want %s", bits, got, want)
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		trip, slow, jitter time.Duration // milliseconds
		down, up           int64         // Mbit/s
		want               string
	}{
		{20, 30, 2, 100, 50, "Good for typing, remote desktops and files."},
		{100, 400, 30, 20, 20, "Good for typing, remote desktops and files."},
		{180, 200, 2, 100, 50, "Good for files. Typing will feel slow: 180 ms there and back. Remote desktops will lag: 180 ms there and back."},
		{120, 130, 2, 100, 50, "Good for typing and files. Remote desktops will lag: 120 ms there and back."},
		{20, 900, 80, 100, 50, "Good for files. Typing will stutter: 900 ms there and back, now and then. Remote desktops will stutter: there and back takes 80 ms more or less each time."},
		{20, 30, 2, 3, 50, "Good for typing. Remote desktops will be slow to show: 3.0 Mbit/s down. Large files will take their time: 3.0 Mbit/s down."},
		{20, 30, 2, 100, 4, "Good for typing and remote desktops. Large files will take their time: 4.0 Mbit/s up."},
		{600, 900, 80, 1, 1, "Typing will feel slow: 600 ms there and back. Remote desktops will lag: 600 ms there and back. Large files will take their time: 1.0 Mbit/s down."},
	} {
		f := figures{RoundTrips{tt.trip * time.Millisecond, tt.slow * time.Millisecond, tt.jitter * time.Millisecond, 100}, tt.down * 1e6, tt.up * 1e6, math.MaxInt64}
		if got := f.verdict(); got != tt.want {
			t.Errorf("%+v\n got %s\nwant %s", tt, got, tt.want)
		}
	}
}

// TestVerdictOfMany: round trips count over the transport that comes first and is to be had, bytes over the faster; a
// rate that the appliance bounds is no fault of the way.
func TestVerdictOfMany(t *testing.T) {
	failed := Way{Transport: "quic", Failure: &Failure{}}
	far := Way{Transport: "quic", RoundTrips: &RoundTrips{P50: 120 * time.Millisecond, Count: 9}, Down: 8e6, Up: 30e6}
	near := Way{Transport: "https", RoundTrips: &RoundTrips{P50: 20 * time.Millisecond, Count: 9}, Down: 30e6, Up: 8e6}
	for _, tt := range []struct {
		bound int64
		ways  []Way
		want  string
	}{
		{1e9, []Way{far, near}, "Good for typing and files. Remote desktops will lag: 120 ms there and back."},
		{1e9, []Way{failed, near}, "Good for typing and remote desktops. Large files will take their time: 8.0 Mbit/s up."},
		{8e6, []Way{failed, near}, "Good for typing, remote desktops and files."},
	} {
		r := BenchReport{Bound: tt.bound, Ways: tt.ways}
		if r.judge(); r.Verdict != tt.want {
			t.Errorf("got %s, want %s", r.Verdict, tt.want)
		}
	}
}

// TestDocsHaveEveryNeed: the thresholds in the docs are those in the code.
func TestDocsHaveEveryNeed(t *testing.T) {
	text, err := os.ReadFile("../docs/connecting.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range needs {
		bound := Rate(int64(n.least)) + " at least"
		if n.most > 0 {
			bound = ofTime(time.Duration(n.most)).text + " at most"
		}
		found := false
		for line := range strings.Lines(string(text)) {
			found = found || strings.HasPrefix(line, "| "+n.use+" | ") && strings.Contains(line, strings.Replace(bound, ".0 ", " ", 1))
		}
		if !found {
			t.Errorf("docs/connecting.md has no row of %s with %s", n.use, bound)
		}
	}
}
