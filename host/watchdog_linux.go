package host

import (
	"errors"
	"log/slog"
	"time"
)

// A Watchdog is the machine's watchdog device before a Parent has it, and between two of them: it restarts the machine
// when process 1 gets stuck.
//
//	w, err := host.OpenWatchdog("/dev/watchdog", log)
//	w.Well(time.Minute)       // the next step takes no longer
//	w.Close()
//	err = parent.Run(ctx)     // which feeds it by what the worker says
type Watchdog struct{ dog *dog }

// OpenWatchdog opens the device, which begins to wait for food by that, and feeds it for two minutes.
func OpenWatchdog(path string, log *slog.Logger) (*Watchdog, error) {
	d, err := newDog(path, log)
	if err != nil {
		return nil, err
	}
	return &Watchdog{d}, nil
}

// Well has the device fed for so long. It may be called by several goroutines, and of no watchdog.
func (w *Watchdog) Well(t time.Duration) {
	if w != nil {
		w.dog.feedFor(t)
	}
}

// Close feeds the device once more and leaves it waiting: somebody has to open and to feed it soon.
func (w *Watchdog) Close() error {
	if w == nil {
		return nil
	}
	close(w.dog.stop)
	w.dog.wg.Wait()
	_, err := w.dog.device.Write([]byte{'.'})
	return errors.Join(err, w.dog.device.Close())
}
