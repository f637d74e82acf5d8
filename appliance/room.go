package appliance

import (
	"cmp"
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

const defaultRoom = 1 << 30

// roomOf is the governor of a person's flows.
func (g *Gateway) roomOf(user string) *frame.Governor {
	r := &g.rooms
	r.mu.Lock()
	defer r.mu.Unlock()
	size := cmp.Or(g.Room, defaultRoom)
	if r.all == nil {
		r.all, r.share = frame.NewGovernor(size), map[string]*frame.Governor{}
	}
	if r.share[user] == nil {
		r.share[user] = r.all.Share(cmp.Or(g.RoomPerUser, size/4))
	}
	return r.share[user]
}
