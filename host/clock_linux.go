package host

import (
	"log/slog"
	"math/bits"
	"time"

	"golang.org/x/sys/unix"
)

// What a worker that says what time it is can do to the clock, and no more.
const (
	slewMost = 400 * time.Millisecond // what is less is slewed: of it a 64th a second, so that the clock goes at most 1 % too fast or too slow
	stepMost = 10 * time.Second       // a later step, at most one in stepEvery
	farMost  = 24 * time.Hour         // the first step, and at most one in farEvery

	correctEvery = 30 * time.Second // what comes sooner is not looked at
	stepEvery    = time.Hour
	farEvery     = 24 * time.Hour

	// clockPoll is how often a worker is expected to say something; the kernel adapts to it.
	clockPoll = 512 * time.Second
)

// No clock is right that shows a time before this program was written, so one that does may be put right by any amount;
// but not to a time before, nor one when nobody uses this program any more.
var (
	notBefore = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = notBefore.AddDate(30, 0, 0)
)

// A clock is this machine's.
type clock interface {
	now() time.Time
	step(offset time.Duration) error
	slew(offset time.Duration) error
}

// A timekeeper decides what becomes of an offset.
type timekeeper struct {
	clock clock
	log   *slog.Logger

	looked, stepped, far time.Time // when an offset was looked at, the clock stepped, and stepped far; by the monotonic clock
	refused              time.Time // when the log said so
}

// correct takes an offset, which the plan may not provide for.
func (s *supervisor) correct(offset time.Duration) {
	if s.held.plan.Clock {
		s.time.correct(offset, time.Now())
	}
}

func (k *timekeeper) correct(offset time.Duration, at time.Time) {
	if !k.looked.IsZero() && at.Sub(k.looked) < correctEvery {
		return
	}
	first := k.looked.IsZero()
	k.looked = at
	size := max(offset, -offset)
	if size <= slewMost {
		if err := k.clock.slew(offset); err != nil {
			k.log.Error("the clock is not set", "offset", offset, "cause", err)
		}
		return
	}
	now := k.clock.now()
	then := now.Add(offset)
	old := now.Before(notBefore) // such a clock was never set
	far := size > stepMost
	switch {
	case then.Before(notBefore) || then.After(notAfter),
		size > farMost && !old,
		far && !first && !old && !k.far.IsZero() && at.Sub(k.far) < farEvery,
		!far && !first && !k.stepped.IsZero() && at.Sub(k.stepped) < stepEvery:
		if k.refused.IsZero() || at.Sub(k.refused) >= stepEvery {
			k.refused = at
			k.log.Error("the clock is not set: that is too far, or too soon after the last time", "offset", offset)
		}
		return
	}
	if err := k.clock.step(offset); err != nil {
		k.log.Error("the clock is not set", "offset", offset, "cause", err)
		return
	}
	k.stepped = at
	if far {
		k.far = at
	}
	k.log.Warn("the clock was set", "offset", offset, "from", now.UTC().Format(time.RFC3339), "to", then.UTC().Format(time.RFC3339))
}

// systemClock is the kernel's.
type systemClock struct{}

func (systemClock) now() time.Time { return time.Now().Round(0) }

func (c systemClock) step(offset time.Duration) error {
	now := unix.NsecToTimespec(time.Now().Add(offset).UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
		return err
	}
	return c.slew(0)
}

// slew has the kernel's phase-locked loop take the offset away and learn from it how fast the clock goes (adjtimex(2)). It
// also counts as synchronized from then on, so that the kernel sets the hardware's clock every 11 minutes.
func (systemClock) slew(offset time.Duration) error {
	_, err := unix.Adjtimex(&unix.Timex{
		Modes:    unix.ADJ_STATUS | unix.ADJ_NANO | unix.ADJ_OFFSET | unix.ADJ_TIMECONST | unix.ADJ_MAXERROR | unix.ADJ_ESTERROR,
		Status:   unix.STA_PLL,
		Offset:   int64(offset),
		Constant: int64(bits.Len(uint(clockPoll/time.Second)) - 1 - 5), // as systemd-timesyncd has it
	})
	return err
}
