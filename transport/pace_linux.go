package transport

import (
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A pace keeps a socket from being read faster than its connections follow. quic-go lets 256 packets wait for a connection
// and drops the rest; one system call brings up to 180. Over a long way it takes quic-go minutes to recover from such a
// loss: its congestion control is Reno's. In the kernel's buffer is room for thousands, so what comes stays there until
// the connection has caught up. docs/performance.md has what that is worth.
//
// A connection that is too slow for good must not make the others wait, nor must who sends in the name of one: patience is
// a share of the time, and when it is used up packets are dropped, so that their sender hears.
type pace struct {
	mu    sync.Mutex
	peers map[netip.AddrPort]*tally

	patience time.Duration // left
	since    time.Time     // when that was so
}

// A tally is how far a connection is behind.
type tally struct {
	taken func() uint64 // bytes of datagrams that the connection has begun to work on
	given uint64        // bytes that it was given, by the same count; the reader's
}

const (
	paceAhead    = 160 << 10 // bytes that may wait for a connection: 112 full packets
	paceBreak    = 50 * time.Microsecond
	mostPatience = 10 * time.Millisecond
	paceShare    = 4 // one part in so many of the time that passes becomes patience
)

// follow has the socket wait for a peer's connection until forget is called.
func (p *pace) follow(peer netip.AddrPort, taken func() uint64) (forget func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.peers == nil {
		p.peers = map[netip.AddrPort]*tally{}
	}
	t := &tally{taken: taken, given: taken()}
	p.peers[peer] = t
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.peers[peer] == t {
			delete(p.peers, peer)
		}
	}
}

// of is a peer's tally; nil: nobody waits for it.
func (p *pace) of(peer netip.AddrPort) *tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peers[peer]
}

// behind says how many bytes a connection has not begun to work on.
func (t *tally) behind() uint64 {
	taken := t.taken()
	t.given = max(t.given, taken)
	return t.given - taken
}

// await waits, as far as patience goes, until a connection has caught up.
func (p *pace) await(t *tally) {
	if t.behind() < paceAhead {
		return
	}
	begin := time.Now()
	p.patience = min(mostPatience, p.patience+begin.Sub(p.since)/paceShare)
	rest := unix.NsecToTimespec(int64(paceBreak))
	for first := true; t.behind() >= paceAhead; first = false {
		if time.Since(begin) >= p.patience {
			t.given = t.taken() // what was dropped would count for ever
			break
		}
		if first {
			runtime.Gosched()
		} else {
			unix.Nanosleep(&rest, nil)
		}
	}
	p.since = time.Now()
	p.patience = max(0, p.patience-p.since.Sub(begin))
}
