package appliance

import (
	"sync"
	"time"

	"sallyport/appliance/api"
	"sallyport/frame"
)

// reached is whether targets could be reached when somebody last wanted to. Nothing is dialled to find out.
type reached struct {
	mu     sync.Mutex
	latest map[string]api.Reach // by the target's name
}

// maxReached bounds what is remembered: what is more is forgotten, all of it, since it is only news.
const maxReached = 10_000

// note remembers how an attempt went.
func (r *reached) note(target string, err error) {
	n := api.Reach{Time: time.Now().UTC(), OK: err == nil}
	if err != nil {
		reason := reasonOf(err)
		n.Why, n.Hint = frame.Clip(reason.Sentence, 255), reason.Hint
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.latest == nil || len(r.latest) >= maxReached {
		r.latest = map[string]api.Reach{}
	}
	r.latest[target] = n
}

// of is the latest attempt at a target, or nil.
func (r *reached) of(target string) *api.Reach {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n, known := r.latest[target]; known {
		return &n
	}
	return nil
}
