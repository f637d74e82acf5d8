package appliance

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"sallyport/frame"
)

// breachOf is how a client broke the protocol, if that is what err says.
func breachOf(err error) (frame.Reason, bool) {
	var session *frame.SessionError
	var stream *frame.StreamError
	if errors.As(err, &session) && session.Remote || errors.As(err, &stream) && stream.Remote {
		return frame.Reason{}, false // the client says that we did
	}
	r, _ := frame.ReasonOf(err)
	switch r.Code {
	case frame.FrameBad, frame.FrameSize, frame.FrameType, frame.Credit, frame.AckBad, frame.FinBad, "E_PROXY_HEADER":
		return r, true
	}
	return frame.Reason{}, false
}

// Breach counts and logs how a client broke the protocol outside of an open flow, whose own line says it. Other errors
// are nothing to it. The log gets a line for each breach, but of one device, and of all strangers together, no more than
// breachBurst at once and then one in breachEvery; the next line says how many were left out.
func (g *Gateway) Breach(p frame.Peer, err error) {
	r, ok := breachOf(err)
	if !ok {
		return
	}
	g.Metrics.breach(r.Code)
	unsaid, ok := g.breaches.say(p.Device)
	if !ok {
		return
	}
	attrs := append(ofPeer(p), "cause", string(r.Code), "why", r.Sentence)
	if unsaid > 0 {
		attrs = append(attrs, "unsaid", unsaid)
	}
	g.Log.Log(context.Background(), slog.LevelWarn, "protocol broken", attrs...)
}

const (
	breachBurst = 10
	breachEvery = 10 * time.Second
)

// breaches remembers who was in the log how often. There is one entry for each enrolled device at most, and one for
// strangers, so that they cannot use up what a device may say, nor the other way round.
type breaches struct {
	mu sync.Mutex
	of map[string]*quota // by device; "" is for strangers
}

type quota struct {
	lines  *rate.Limiter
	unsaid int
}

// say asks for a line, and tells how many were asked for in vain since the last one.
func (b *breaches) say(device string) (unsaid int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.of[device]
	if q == nil {
		if b.of == nil {
			b.of = make(map[string]*quota)
		}
		q = &quota{lines: rate.NewLimiter(rate.Every(breachEvery), breachBurst)}
		b.of[device] = q
	}
	if !q.lines.Allow() {
		q.unsaid++
		return 0, false
	}
	unsaid, q.unsaid = q.unsaid, 0
	return unsaid, true
}
