package appliance

import (
	"sync"

	"sallyport/frame"
)

// rooms are the governors of memory: one for all, of which each person has a share. Those of people who have left stay,
// some hundred bytes each, for there are not more people than devices were enrolled for.
type rooms struct {
	mu    sync.Mutex
	all   *frame.Governor
	share map[string]*frame.Governor
}

// The memory, in bytes, that flows beyond their first 128 KiB may make us hold: those of all people together, and those
// of one.
const roomOfAll, roomOfOne = 1 << 30, 256 << 20

// roomOfBrowser is how far ahead of what was taken either end of a browser's flow may be: a tab has to hold as much.
const roomOfBrowser = 1 << 20

// options are those of a flow that p opens or resumes.
func (g *Gateway) options(p frame.Peer) frame.Options {
	o := frame.Options{Governor: g.roomOf(p.User), Skipped: g.Metrics.frameSkipped}
	if p.Transport == transportBrowser {
		o.MaxRoom, o.MaxHeld = roomOfBrowser, roomOfBrowser
	}
	return o
}

// transportBrowser is what the transport of browsers is called, in policies and logs too.
const transportBrowser = "websocket"

// roomOf is the governor of a person's flows.
func (g *Gateway) roomOf(user string) *frame.Governor {
	r := &g.rooms
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all == nil {
		r.all, r.share = frame.NewGovernor(roomOfAll), map[string]*frame.Governor{}
	}
	if r.share[user] == nil {
		r.share[user] = r.all.Share(roomOfOne)
	}
	return r.share[user]
}
