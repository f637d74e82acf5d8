package measure

import "sync"

// A Tally counts what has come, for somebody who waits for it.
type Tally struct {
	mu   sync.Mutex
	more *sync.Cond
	n    int // that nobody has waited for
}

func NewTally() *Tally {
	t := new(Tally)
	t.more = sync.NewCond(&t.mu)
	return t
}

// Add says that n more have come.
func (t *Tally) Add(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n += n
	t.more.Signal()
}

// Await returns when n more have come than were awaited before.
func (t *Tally) Await(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.n < n {
		t.more.Wait()
	}
	t.n -= n
}
