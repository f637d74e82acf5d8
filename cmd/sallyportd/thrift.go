package main

import (
	"context"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Go collects garbage when the heap has doubled, and shrinks a goroutine's stack by half at most each time. So after a
// burst of flows an appliance that has become quiet would keep twice the memory of what is alive, and stacks as large as
// opening a flow takes. A few collections then give that back.
const (
	thriftEvery = 2 * time.Second
	thriftQuiet = 0.25             // CPUs in use, at most: ten thousand idle flows that are asked whether they live take less
	thriftTimes = 4                // a stack of 32 KiB is one of 2 KiB then
	thriftPause = 15 * time.Second // between two series, whatever happens
)

// A thrift says when memory is to be given back.
type thrift struct {
	worked bool // since the last series began
	left   int  // collections of this series
	next   time.Time
}

// due takes how many CPUs were in use lately.
func (t *thrift) due(now time.Time, cpus float64) bool {
	switch {
	case cpus > thriftQuiet:
		t.worked = true
		return false
	case t.left == 0 && t.worked && !now.Before(t.next):
		t.worked, t.left, t.next = false, thriftTimes, now.Add(thriftPause)
	}
	if t.left == 0 {
		return false
	}
	t.left--
	return true
}

// saveMemory gives back what is not in use whenever the appliance becomes quiet, until ctx ends.
func saveMemory(ctx context.Context) {
	var t thrift
	tick := time.NewTicker(thriftEvery)
	defer tick.Stop()
	for last, before := time.Now(), cpuSeconds(); ; last, before = time.Now(), cpuSeconds() {
		select {
		case now := <-tick.C:
			if t.due(now, (cpuSeconds()-before)/now.Sub(last).Seconds()) {
				debug.FreeOSMemory()
			}
		case <-ctx.Done():
			return
		}
	}
}

// cpuSeconds is what the process has used.
func cpuSeconds() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
