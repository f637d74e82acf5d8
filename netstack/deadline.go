package netstack

import (
	"sync"
	"time"
)

// deadline is a point in time that can be moved while someone waits for it. Its channel is made when first waited for.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	due   chan struct{} // closed while the time has passed
}

// set moves the deadline; the zero time takes it away.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.due // the timer has fired: let it close the channel, which is then replaced below
	}
	d.timer = nil
	if d.due == nil || isClosed(d.due) {
		d.due = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	due := d.due
	if wait := time.Until(t); wait > 0 {
		d.timer = time.AfterFunc(wait, func() { close(due) })
	} else {
		close(due)
	}
}

// passed returns a channel that is closed when the deadline passes.
func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.due == nil {
		d.due = make(chan struct{})
	}
	return d.due
}

// stop frees the timer.
func (d *deadline) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
