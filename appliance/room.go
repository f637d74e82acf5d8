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
