package portal

import (
	"net/netip"
	"sync"
	"time"

	"sallyport/appliance/auth"
)

// What strangers may ask of the pages in a minute: all of an IPv4 address or an IPv6 /64, and all together. Each costs a
// place among what waits, or a line in the log.
//
// A few sources that ask all that they may would keep everybody else out. So there is a reserve for sources that have asked
// little: who signs in asks three or four times. It takes hundreds of addresses to use that up too.
const (
	perSource   = 120
	perMinute   = 3000
	little      = 10
	reserve     = 3000
	turnstileIn = time.Minute
)

// A turnstile counts requests. Its zero value is open.
type turnstile struct {
	mu    sync.Mutex
	since time.Time
	all   int
	by    map[netip.Prefix]int
}

// pass says whether one more may come from a source now.
func (t *turnstile) pass(from netip.Addr, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.since) >= turnstileIn || t.by == nil {
		t.since, t.all, t.by = now, 0, map[netip.Prefix]int{}
	}
	source, most := auth.Network(from), perMinute
	if t.by[source] < little {
		most += reserve
	}
	if t.all >= most || t.by[source] >= perSource {
		return false
	}
	t.all++
	t.by[source]++
	return true
}
