package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go collects garbage when the heap has doubled, and shrinks a goroutine's stack by half at most each time. So after a
// burst of flows an appliance that has become quiet would keep twice the memory of what is alive, and stacks as large as
// opening a flow takes. A few collections soon after return that: of a thousand idle flows over HTTPS 60 KiB each.
const (
	thriftEvery = 2 * time.Second
	thriftQuiet = 1 << 20 // bytes allocated in that time, at most: then a collection disturbs nobody
	thriftTimes = 4       // a stack of 32 KiB is one of 2 KiB then
)

// saveMemory gives back what is not in use whenever the appliance becomes quiet, until ctx ends.
func saveMemory(ctx context.Context) {
	allocated := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	last, left := uint64(0), 0
	tick := time.NewTicker(thriftEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		metrics.Read(allocated)
		now := allocated[0].Value.Uint64()
		switch busy := now-last > thriftQuiet; {
		case busy:
			left = thriftTimes
		case left > 0:
			debug.FreeOSMemory()
			left--
		}
		last = now
	}
}
