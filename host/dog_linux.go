package host

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	biteAfter  = 60 // seconds that the device is asked to wait for food; its driver may know only less
	feedPart   = 4  // of the time that a watchdog waits, it is fed after one
	feedAtMost = 10 * time.Second
	feedLeast  = 100 * time.Millisecond
)

// A dog feeds the watchdogs: the machine's device, if one is named, and the service manager's. They are fed as long as
// somebody has said lately that all is well. A supervisor that hangs says nothing.
type dog struct {
	Manager
	log    *slog.Logger
	device *os.File // nil: none
	every  time.Duration
	stop   chan struct{}
	wg     sync.WaitGroup

	mu    sync.Mutex
	until time.Time // all is well till then
}

// newDog opens the device, which begins to wait for food by that.
func newDog(device string, log *slog.Logger) (*dog, error) {
	d := &dog{log: log, every: feedAtMost, stop: make(chan struct{})}
	if patience := d.Patience(); patience > 0 {
		d.every = min(d.every, patience/feedPart)
	}
	if device != "" {
		f, err := os.OpenFile(device, os.O_WRONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("watchdog: %w", err)
		}
		d.device = f
		waits := biteAfter
		// A device that cannot be asked or told waits for as long as it likes: a minute is usual.
		unix.IoctlSetPointerInt(int(f.Fd()), unix.WDIOC_SETTIMEOUT, biteAfter)
		if n, err := unix.IoctlGetInt(int(f.Fd()), unix.WDIOC_GETTIMEOUT); err == nil && n > 0 {
			waits = n
		}
		d.every = min(d.every, time.Duration(waits)*time.Second/feedPart)
		log.Info("watchdog", "device", device, "seconds", waits)
	}
	if d.device != nil || d.Patience() > 0 {
		d.every = max(d.every, feedLeast)
		d.feedFor(startSlow * hungAfter) // what is prepared before the first worker may take a while
		d.wg.Go(d.run)
	}
	return d, nil
}

// feedFor says that all is well for so long.
func (d *dog) feedFor(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Now().Add(t)
}

func (d *dog) run() {
	tick := time.NewTicker(d.every)
	defer tick.Stop()
	for hungry := false; ; {
		d.mu.Lock()
		well := time.Now().Before(d.until)
		d.mu.Unlock()
		if well {
			d.feed()
		} else if !hungry {
			d.log.Warn("watchdogs are not fed: no worker is known to live")
		}
		hungry = !well
		select {
		case <-tick.C:
		case <-d.stop:
			return
		}
	}
}

func (d *dog) feed() {
	if d.Patience() > 0 {
		d.Feed()
	}
	if d.device == nil {
		return
	}
	if _, err := d.device.Write([]byte{'.'}); err != nil {
		d.log.Error("watchdog", "cause", err)
	}
}

// close tells the device that this is an orderly end ("magic close"): unless its driver was told otherwise, it stops
// waiting. An armed one is fed once more and goes on waiting.
func (d *dog) close(armed bool) error {
	close(d.stop)
	d.wg.Wait()
	if d.device == nil {
		return nil
	}
	last := []byte{'V'}
	if armed {
		last = []byte{'.'}
	}
	_, err := d.device.Write(last)
	return errors.Join(err, d.device.Close())
}
