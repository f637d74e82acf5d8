package host

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// fakeClock is set in place of this machine's.
type fakeClock struct {
	at            time.Time
	steps, slewed []time.Duration
	err           error
}

func (c *fakeClock) now() time.Time { return c.at }
func (c *fakeClock) step(d time.Duration) error {
	if c.err == nil {
		c.at = c.at.Add(d)
		c.steps = append(c.steps, d)
	}
	return c.err
}
func (c *fakeClock) slew(d time.Duration) error {
	if c.err == nil {
		c.slewed = append(c.slewed, d)
	}
	return c.err
}

// keeper is a timekeeper with a fake clock, and a way to let time pass.
type keeper struct {
	timekeeper
	fake *fakeClock
	log  *testLog
	at   time.Time
}

func newKeeper(t *testing.T, clock time.Time) *keeper {
	k := &keeper{fake: &fakeClock{at: clock}, log: &testLog{t: t}, at: time.Now()}
	k.timekeeper = timekeeper{clock: k.fake, log: slog.New(slog.NewTextHandler(k.log, nil))}
	return k
}

// after lets time pass and takes an offset; it says whether the clock was stepped and slewed.
func (k *keeper) after(d, offset time.Duration) (stepped, slewed bool) {
	k.at, k.fake.at = k.at.Add(d), k.fake.at.Add(d)
	steps, slews := len(k.fake.steps), len(k.fake.slewed)
	k.correct(offset, k.at)
	return len(k.fake.steps) > steps, len(k.fake.slewed) > slews
}

var today = time.Date(2026, 11, 27, 9, 0, 0, 0, time.UTC)

func TestClockIsSteppedAtTheStartAndSlewedLater(t *testing.T) {
	k := newKeeper(t, today.Add(-5*time.Minute))
	if stepped, _ := k.after(0, 5*time.Minute); !stepped || !k.fake.at.Equal(today) {
		t.Errorf("the first offset: %v", k.fake.at)
	}
	if !k.log.has("the clock was set") {
		t.Error("the log does not say so")
	}
	for _, offset := range []time.Duration{time.Millisecond, -300 * time.Millisecond} {
		if stepped, slewed := k.after(clockPoll, offset); stepped || !slewed {
			t.Errorf("%v: stepped %t, slewed %t", offset, stepped, slewed)
		}
	}
	if stepped, slewed := k.after(time.Second, time.Millisecond); stepped || slewed {
		t.Error("an offset that comes at once again is looked at")
	}
}

func TestClockThatWasNeverSet(t *testing.T) {
	k := newKeeper(t, time.Unix(0, 0))
	if stepped, _ := k.after(0, today.Sub(time.Unix(0, 0))); !stepped || !k.fake.at.Equal(today) {
		t.Errorf("1970 becomes %v", k.fake.at)
	}
}

// A worker that lies moves the clock by a day and then by ten seconds an hour, and never out of this program's time.
func TestClockOfALiar(t *testing.T) {
	for name, offset := range map[string]time.Duration{"far ahead": 25 * time.Hour, "far behind": -25 * time.Hour, "an age": -90 * 365 * 24 * time.Hour} {
		k := newKeeper(t, today)
		if stepped, slewed := k.after(0, offset); stepped || slewed || !k.log.has("the clock is not set") {
			t.Errorf("%s: stepped %t, slewed %t", name, stepped, slewed)
		}
	}
	k := newKeeper(t, notBefore.Add(-time.Hour))
	if stepped, _ := k.after(0, notAfter.AddDate(1, 0, 0).Sub(notBefore)); stepped {
		t.Error("beyond this program's time")
	}

	for _, offset := range []time.Duration{20 * time.Hour, 9 * time.Second} {
		k := newKeeper(t, today)
		for range 24 * 3600 / 31 {
			k.after(31*time.Second, offset)
		}
		var sum time.Duration
		for _, s := range k.fake.steps {
			sum += s
		}
		if sum > 24*time.Hour+24*stepMost {
			t.Errorf("%v again and again: the clock was moved by %v in a day", offset, sum)
		}
		if n := strings.Count(k.log.all(), "the clock is not set"); n > 25 {
			t.Errorf("%v: %d lines in the log", offset, n)
		}
	}
}

func TestClockThatMayNotBeSet(t *testing.T) {
	k := newKeeper(t, today)
	k.fake.err = errors.New("operation not permitted")
	k.after(0, time.Minute)
	k.after(time.Hour, time.Millisecond)
	if n := strings.Count(k.log.all(), "operation not permitted"); n != 2 {
		t.Errorf("said %d times", n)
	}
}

// The worker's word counts only if the plan says so.
func TestClockMustBePlanned(t *testing.T) {
	for _, planned := range []bool{false, true} {
		clock := &fakeClock{at: today}
		r := startWith(t, t.TempDir(), Plan{Clock: planned}, func(p *Parent) { p.clock = clock })
		r.want("said", "clock 1m")
		pid := r.pid()
		if planned {
			r.logs("the clock was set")
		}
		if r.pid() != pid {
			t.Error("the worker was replaced")
		}
		r.end()
		if (len(clock.steps) == 1) != planned || len(clock.slewed) > 0 {
			t.Errorf("planned %t: stepped by %v, slewed by %v", planned, clock.steps, clock.slewed)
		}
	}
}
