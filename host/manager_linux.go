package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// A Manager is the service manager that has started this process, if it wants to be told (sd_notify(3)): when the
// environment has NOTIFY_SOCKET. Without one nothing is told.
type Manager struct{}

// What a manager is told.
const (
	ready    = daemon.SdNotifyReady
	stopping = daemon.SdNotifyStopping
)

// Ready says that the service serves.
func (m Manager) Ready() { m.tell(ready) }

// Stopping says that the service begins to end.
func (m Manager) Stopping() { m.tell(stopping) }

// Feed says that the service lives, in time for Patience.
func (m Manager) Feed() { m.tell(daemon.SdNotifyWatchdog) }

// tell does not mind a manager that does not listen: the service goes on all the same.
func (Manager) tell(what string) { daemon.SdNotify(false, what) }

// Patience is how long the manager waits for Feed before it kills the service (WatchdogSec); 0 is for ever.
func (Manager) Patience() time.Duration {
	d, err := daemon.SdWatchdogEnabled(false)
	if err != nil { // a variable that makes no sense
		return 0
	}
	return d
}

// reloading says that files are read again; ready ends it.
func reloading() string {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return daemon.SdNotifyReloading
	}
	return fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000)
}

// Watch says that the service serves once test has passed, and feeds the manager's patience for as long as test does, until
// ctx ends. A parent does this for its worker; Watch is for a service without one.
func (m Manager) Watch(ctx context.Context, test func(context.Context) error) {
	if !m.Listens() {
		return
	}
	every := feedAtMost
	if patience := m.Patience(); patience > 0 {
		every = min(every, patience/feedPart)
	}
	tick := time.NewTicker(max(every, feedLeast))
	defer tick.Stop()
	for told := false; ; {
		testing, cancel := context.WithTimeout(ctx, testTimeout)
		err := test(testing)
		cancel()
		if err == nil && !told {
			m.Ready()
			told = true
		}
		if err == nil || errors.Is(err, ErrTrouble) {
			m.Feed()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Listens says whether there is a manager that wants to be told.
func (Manager) Listens() bool { return os.Getenv("NOTIFY_SOCKET") != "" }
