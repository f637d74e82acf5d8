package client

import (
	"context"
	"io"

	"sallyport/frame"
	"sallyport/relay"
)

// A First sends what a local program says while the appliance has not answered yet, and so saves protocols whose client
// speaks first a round trip.
type First struct {
	Conn relay.Conn // that it is read from, by nobody else meanwhile

	said []byte
	err  error // of Conn, but for its end
}

// maxFirst is how much that may be. A flow may carry as much before it is open, and more (PROTOCOL.md, "the first limit").
const maxFirst = 4 << 10

// mayRepeat says whether a flow may be asked for again after the session was lost under the first attempt: what was said
// may have reached the target, and only of a greeting is it known that to hear it twice does no harm.
func (f *First) mayRepeat(protocol string) bool {
	return f == nil || len(f.said) == 0 || protocol == "ssh" || protocol == "rdp"
}

// join is join of the conn that it has read from.
func (f *First) join(ctx context.Context, flow Flow) error {
	if f.err == nil {
		return join(ctx, flow, f.Conn)
	}
	defer f.Conn.Close()
	return failedHere(flow, f.err)
}

// early is what opens a flow with it. Where a session turns out to be dead and another takes its place, what was said is
// said again.
func (f *First) early() func(context.Context, *frame.Stream) {
	if f == nil {
		return nil
	}
	return f.say
}

func (f *First) say(ctx context.Context, s *frame.Stream) {
	if len(f.said) > 0 && send(s, f.said) != nil {
		return
	}
	for len(f.said) < maxFirst {
		if _, err := f.Conn.WaitReadable(ctx, nil); err != nil {
			return
		}
		if f.said == nil {
			f.said = make([]byte, 0, maxFirst)
		}
		before := len(f.said)
		n, err := f.Conn.Read(f.said[before:maxFirst])
		f.said = f.said[:before+n]
		if n > 0 && send(s, f.said[before:]) != nil {
			return
		}
		if err != nil {
			if err != io.EOF { // which the relay meets again
				f.err = err
			}
			return
		}
	}
}

// send sends bytes that the flow has room for, whether the answer has come meanwhile or not.
func send(s *frame.Stream, p []byte) error {
	for len(p) > 0 {
		b, err := s.Reserve(context.Background())
		if err != nil {
			return err
		}
		n := copy(b, p)
		if err := s.Commit(n); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}
