package appliance

import (
	"context"
	"errors"
	"log/slog"
	"time"

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
	unsaid, ok := g.breaches.say(p.Device, breachEvery, breachBurst)
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
