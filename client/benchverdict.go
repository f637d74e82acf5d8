package client

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A need is what some use of a way wants of one figure.
type need struct {
	use         string // as in "Good for …"
	figure      func(figures) figure
	least, most float64 // 0: no bound
	but         string  // what is said otherwise, before the figure
}

// needs are what the verdict is made of; docs/connecting.md has them too. Of each use the first that is not met is said.
var needs = []need{
	{use: "typing", figure: figures.roundTrip, most: 150 * ms, but: "Typing will feel slow: %s there and back."},
	{use: "typing", figure: figures.slowTrip, most: 400 * ms, but: "Typing will stutter: %s there and back, now and then."},
	{use: "remote desktops", figure: figures.roundTrip, most: 100 * ms, but: "Remote desktops will lag: %s there and back."},
	{use: "remote desktops", figure: figures.jitter, most: 30 * ms, but: "Remote desktops will stutter: there and back takes %s more or less each time."},
	{use: "remote desktops", figure: figures.fromThere, least: 5 * mbit, but: "Remote desktops will be slow to show: %s."},
	{use: "files", figure: figures.slower, least: 20 * mbit, but: "Large files will take their time: %s."},
}

const (
	ms   = float64(time.Millisecond)
	mbit = 1e6
)

// figures are what a command may count on: round trips over the transport that it tries first, bytes over the faster one.
type figures struct {
	trips           RoundTrips
	down, up, bound int64
}

// A figure is a number, and how people read it.
type figure struct {
	value float64
	text  string
}

func (f figures) roundTrip() figure { return ofTime(f.trips.P50) }
func (f figures) slowTrip() figure  { return ofTime(f.trips.P99) }
func (f figures) jitter() figure    { return ofTime(f.trips.Jitter) }
func (f figures) fromThere() figure { return f.ofRate(f.down, " down") }

func (f figures) slower() figure {
	if f.up < f.down {
		return f.ofRate(f.up, " up")
	}
	return f.fromThere()
}

func ofTime(d time.Duration) figure {
	return figure{float64(d), fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())}
}

// ofRate is without bound where the appliance's measurements are what bounds it.
func (f figures) ofRate(bits int64, way string) figure {
	if AtBound(bits, f.bound) {
		return figure{math.Inf(1), ""}
	}
	return figure{float64(bits), Rate(bits) + way}
}

// AtBound says that a rate is about what the appliance lets measurements have: the way may carry more.
func AtBound(bits, bound int64) bool { return float64(bits) >= 0.9*float64(bound) }

// Rate is a number of bits a second in the unit that a person would choose.
func Rate(bits int64) string {
	value, units := float64(bits)/1e3, []string{"kbit/s", "Mbit/s", "Gbit/s"}
	for len(units) > 1 && value >= 1000 {
		value, units = value/1000, units[1:]
	}
	if value < 10 {
		return fmt.Sprintf("%.1f %s", value, units[0])
	}
	return fmt.Sprintf("%.0f %s", value, units[0])
}

// judge writes the verdict.
func (r *BenchReport) judge() {
	f := figures{bound: r.Bound}
	for _, w := range r.Ways {
		if w.Failure == nil {
			if f.trips.Count == 0 {
				f.trips = *w.RoundTrips
			}
			f.down, f.up = max(f.down, w.Down), max(f.up, w.Up)
		}
	}
	r.Verdict = f.verdict()
}

func (f figures) verdict() string {
	var good, bad, sentences []string
	for _, n := range needs {
		got := n.figure(f)
		switch {
		case slices.Contains(bad, n.use):
		case n.most > 0 && got.value > n.most, got.value < n.least:
			bad = append(bad, n.use)
			sentences = append(sentences, fmt.Sprintf(n.but, got.text))
		case !slices.Contains(good, n.use):
			good = append(good, n.use)
		}
	}
	good = slices.DeleteFunc(good, func(use string) bool { return slices.Contains(bad, use) })
	if len(good) > 0 {
		sentences = slices.Insert(sentences, 0, "Good for "+listed(good)+".")
	}
	return strings.Join(sentences, " ")
}

// listed is "a, b and c".
func listed(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}
