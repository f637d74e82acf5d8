package client

import (
	"net/netip"
	"sync"
	"time"

	"sallyport/transport"
)

// whereabouts remember which address this computer uses towards an appliance. Each flow looks twice a second whether that
// has changed; the kernel, which a socket is needed to ask, is asked for all of them.
type whereabouts struct {
	mu     sync.Mutex
	places map[netip.AddrPort]place
}

type place struct {
	addr  netip.Addr
	asked time.Time
}

// A place is news for so long, and so many are remembered.
const (
	placeFor  = 200 * time.Millisecond
	maxPlaces = 64
)

var here whereabouts

// towards is the address; not valid if there is no way.
func (w *whereabouts) towards(remote netip.AddrPort) netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p, ok := w.places[remote]; ok && time.Since(p.asked) < placeFor {
		return p.addr
	}
	if w.places == nil || len(w.places) >= maxPlaces {
		w.places = map[netip.AddrPort]place{}
	}
	p := place{transport.LocalAddr(remote), time.Now()}
	w.places[remote] = p
	return p.addr
}
