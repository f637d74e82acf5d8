package transport

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/frame"
)

const (
	// perSource is how many connections of one source that nobody has come from lately may not have said yet who they
	// are. Where somebody has, a program that opens many flows at once is likelier than an attack.
	perSource = 16

	// A tenth of the places is kept for sources that somebody has come from lately; of so many it is remembered.
	recentFor = time.Hour
	maxRecent = 4096

	// maxPerUser bounds the connections of one person: over HTTPS each flow has one.
	maxPerUser = 512
)

// A door counts the connections that have not said who they are, which cost memory and nobody is answerable for, and
// knows those that have. Its zero value is open.
type door struct {
	mu       sync.Mutex
	waiting  int
	bySource map[netip.Prefix]int
	recent   map[netip.Prefix]time.Time
	inside   map[*inside]struct{}
	byUser   map[string]int
}

// An inside is an admitted connection.
type inside struct {
	user, device string
	end          context.CancelCauseFunc
}

// sourceOf is what counts as one source: an IPv4 address, or the /64 that a host of IPv6 may choose from.
func sourceOf(a netip.Addr) netip.Prefix {
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// wait counts a stranger in, or says that there are too many, in all or from one source. Behind a balancer, whose
// header has not been read yet, from is not valid and counts for nobody. leave may be called again.
func (d *door) wait(from netip.Addr, most int) (leave func(), ok bool) {
	source := sourceOf(from) // not valid if from is not
	d.mu.Lock()
	defer d.mu.Unlock()
	limit, share := most, most
	if time.Since(d.recent[source]) > recentFor {
		limit -= most / 10
		if from.IsValid() {
			share = min(perSource, most)
		}
	}
	if d.waiting >= limit || d.bySource[source] >= share {
		return nil, false
	}
	if d.bySource == nil {
		d.bySource = map[netip.Prefix]int{}
	}
	d.waiting++
	d.bySource[source]++
	var left atomic.Bool
	return func() {
		if !left.CompareAndSwap(false, true) {
			return
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.waiting--
		if d.bySource[source]--; d.bySource[source] == 0 {
			delete(d.bySource, source)
		}
	}, true
}

// enter notes an admitted connection, or says that its person has too many. It is noted until ctx ends, and end ends it.
func (d *door) enter(ctx context.Context, p *frame.Peer, end context.CancelCauseFunc) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.byUser[p.User]; n >= maxPerUser {
		return &frame.SessionError{Reason: frame.Reason{Code: "E_LIMIT",
			Sentence: fmt.Sprintf("you have %d connections to the appliance, which is the limit", n), Hint: "close some"}}
	}
	if d.inside == nil {
		d.inside, d.byUser, d.recent = map[*inside]struct{}{}, map[string]int{}, map[netip.Prefix]time.Time{}
	}
	if len(d.recent) >= maxRecent {
		clear(d.recent)
	}
	d.recent[sourceOf(p.Remote.Addr())] = time.Now()
	in := &inside{p.User, p.Device, end}
	d.inside[in] = struct{}{}
	d.byUser[p.User]++
	context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.inside, in)
		if d.byUser[in.user]--; d.byUser[in.user] == 0 {
			delete(d.byUser, in.user)
		}
	})
	return nil
}

// showOut ends the connections of a device.
func (d *door) showOut(device string, why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for in := range d.inside {
		if in.device == device {
			in.end(why)
		}
	}
}
