package host

import (
	"context"
	"errors"
	"time"
)

const (
	testTimeout = 5 * time.Second // for one self-test
	testAgain   = time.Second     // after one that has failed
)

// ErrTrouble is wrapped by the error of a self-test that has found what another worker could not mend, such as a full
// disk. The worker is left in peace; it is not counted as well either.
var ErrTrouble = errors.New("the worker lives, but not all is well")

// Serving says that the worker serves. From now on the parent's question whether it lives is answered when test has
// passed, and a worker that does not answer is killed. A test that fails is tried again until it passes; it must do with
// little, since it is called every few seconds, and return soon when its context ends.
func (w *Worker) Serving(test func(context.Context) error) { w.live(serving, test) }

// Draining says that the worker is about to end: nothing is tested any more, but it still says that it lives.
func (w *Worker) Draining() { w.live(draining, nil) }

func (w *Worker) live(s state, test func(context.Context) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.life, w.test = s, test
}

// answer answers the parent's questions until the worker closes.
func (w *Worker) answer() {
	for {
		select {
		case n := <-w.asks:
			if s := w.examine(); s != "" {
				w.send(request{Alive: n, State: s}) // a parent that is gone kills us
			}
		case <-w.ctx.Done():
			return
		}
	}
}

// examine tests until the worker is known to live; its state is empty if it closes before.
func (w *Worker) examine() state {
	for {
		w.mu.Lock()
		s, test := w.life, w.test
		w.mu.Unlock()
		if test == nil {
			return s
		}
		ctx, cancel := context.WithTimeout(w.ctx, testTimeout)
		err := test(ctx)
		cancel()
		switch {
		case err == nil:
			return s
		case errors.Is(err, ErrTrouble):
			return troubled
		}
		select {
		case <-time.After(testAgain):
		case <-w.ctx.Done():
			return ""
		}
	}
}

// SetClock tells the parent by how much this machine's clock is behind, or ahead if the offset is negative. What the parent
// makes of it is in its log; it must have been planned.
func (w *Worker) SetClock(offset time.Duration) error {
	ns := int64(offset)
	return w.send(request{Clock: &ns})
}
