package host

import (
	"errors"
	"fmt"
	"time"
)

const (
	hungAfter = 15 * time.Second // of silence; see Parent.HungAfter
	startSlow = 8                // times as long a worker may take to answer at all

	// A tick of the parent's clock counts for no more than this: the machine may have slept, and the worker with it.
	longestTick = 2 * pollInterval

	asksIn = 3 // questions in the time after which a worker is hung
)

// A vigil is how the parent watches whether one worker lives: it asks, one question at a time, and counts how long it
// waits for the answer.
type vigil struct {
	hungAfter time.Duration

	state   state         // by the last answer; empty before the first one
	asked   uint64        // the last question
	waiting bool          // for its answer
	rest    time.Duration // since the last answer
	silence time.Duration // since the question
	last    time.Time     // of the last tick
	killed  bool          // it was hung
}

// tick takes the time and says whether to ask now, and whether the worker is hung.
func (v *vigil) tick(now time.Time) (ask, hung bool) {
	passed := min(now.Sub(v.last), longestTick)
	if v.last.IsZero() {
		passed = 0
	}
	v.last = now
	if v.waiting {
		v.silence += passed
		return false, v.silence >= v.limit()
	}
	v.rest += passed
	if v.state != "" && v.state != starting && v.rest < v.hungAfter/asksIn {
		return false, false
	}
	v.asked, v.waiting, v.silence = v.asked+1, true, 0
	return true, false
}

// limit is how long the worker may be silent.
func (v *vigil) limit() time.Duration {
	if v.state == "" {
		return startSlow * v.hungAfter
	}
	return v.hungAfter
}

// answered takes an answer, and says whether anybody has asked.
func (v *vigil) answered(r request) bool {
	if !v.waiting || r.Alive != v.asked {
		return false
	}
	v.waiting, v.state, v.rest = false, r.State, 0
	return true
}

var errUnasked = errors.New("the worker answers what nobody has asked")

// look asks the worker whether it lives, when it is time to, and kills one that does not answer.
func (s *supervisor) look(w *child, v *vigil, now time.Time) {
	ask, hung := v.tick(now)
	switch {
	case hung && !v.killed:
		v.killed = true
		s.kill(w, fmt.Errorf("worker hung: no answer for %v", v.limit()))
	case ask:
		w.send(message{Ask: v.asked}) // a worker that cannot be asked does not answer either; it may be ending
	}
}

// heard takes up that the worker has answered.
func (s *supervisor) heard(w *child, now state) {
	if w.state != now {
		w.state = now
		s.Log.Info("worker lives", "state", string(now))
	}
	if now != starting || s.deaths.delay == 0 {
		s.dog.feedFor(2 * s.HungAfter)
	}
	s.served = s.served || now == serving || now == troubled
	if now != serving || s.healthy {
		return
	}
	s.healthy = true
	s.dog.tell(ready)
	if s.Healthy != nil {
		s.Healthy()
	}
}
