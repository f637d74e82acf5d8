package appliance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"sallyport/appliance/policy"
	"sallyport/frame"
)

// A right may end by itself: a time window, a sign-in with a second factor that is too long ago, a lifetime. Sessions that
// it allowed end then, and are told before.
const (
	lookAhead   = 10 * time.Second // how often it is looked; a session may outlive its right by so much
	firstNotice = 5 * time.Minute
	lastNotice  = time.Minute
)

// WatchTime ends the sessions whose rights have ended with time, until ctx ends.
func (g *Gateway) WatchTime(ctx context.Context) {
	tick := time.NewTicker(lookAhead)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			p := g.policy.Load()
			g.live.each(func(f *flow) { f.atTime(p, now) })
		case <-ctx.Done():
			return
		}
	}
}

// atTime ends the flow if its right has, or tells the person that it soon will.
func (f *flow) atTime(p *policy.Policy, now time.Time) {
	if f.stream.Load() == nil || f.grant.Protocol == policy.Bench || !f.timed.Load() {
		return
	}
	if err := f.still(p, f.latest(), now); err != nil {
		f.end(grantEnded(err))
		return
	}
	var left time.Duration
	switch {
	case f.still(p, f.latest(), now.Add(lastNotice)) != nil:
		left = lastNotice
	case f.still(p, f.latest(), now.Add(firstNotice)) != nil:
		left = firstNotice
	default:
		f.told.Store(0) // also when somebody has prolonged it
		return
	}
	if told := time.Duration(f.told.Load()); told != 0 && told <= left {
		return
	}
	f.told.Store(int64(left))
	f.stream.Load().Notify(frame.Notice{Text: fmt.Sprintf("this session ends within %s, when the right to %s does", minutes(left), f.name())})
	f.log(slog.LevelInfo, "session ends soon", "within", left)
}

func minutes(d time.Duration) string {
	if d == time.Minute {
		return "a minute"
	}
	return fmt.Sprintf("%d minutes", int(d.Minutes()))
}

// grantEnded says why a session ends whose right has.
func grantEnded(err error) error {
	var refusal *policy.Refusal
	if !errors.As(err, &refusal) {
		return err // a lifetime, say
	}
	reason := reasonOf(err)
	reason.Code, reason.Sentence = "E_GRANT_ENDED", "the time of this right is over: "+reason.Sentence
	return &frame.StreamError{Reason: reason}
}
