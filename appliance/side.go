package appliance

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"sallyport/appliance/audit"
	"sallyport/appliance/policy"
)

// A Side is the person's end of one flow of a Session, as a stream for its Program: what is read comes from the person, what
// is written goes to them. A Write returns when all of it has a place in a buffer of sideBuffer, so a person who does
// not read holds the writer up. One goroutine reads; writes of several do not mix.
//
// It goes on when the flow changes its connection, and while it has none. Done is closed when the flow has ended.
type Side struct {
	Grant   policy.Grant // what this flow may do, by the policy as it was when it began; one that loses a channel ends
	Program string       // that the flow has named

	session  *Session
	flow     *flow
	up, down *half
	over     chan struct{}

	writing sync.Mutex
	leaving sync.Once
}

// sideBuffer is what a side holds in each direction: a slab's worth.
const sideBuffer = 64 << 10

// Session is what the side belongs to.
func (s *Side) Session() *Session { return s.session }

// May says whether policy allows a channel in this flow.
func (s *Side) May(channel string) bool { return slices.Contains(s.Grant.Channels, channel) }

// Done is closed when the flow has ended.
func (s *Side) Done() <-chan struct{} { return s.over }

// Read implements io.Reader. It returns io.EOF when the person has ended their direction, upon which a program whose person
// says nothing more closes the side, and why when the flow has ended.
func (s *Side) Read(p []byte) (int, error) {
	for {
		n, err := s.up.take(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		select {
		case <-s.up.came:
		case <-s.over:
			return 0, s.cause()
		}
	}
}

// Write implements io.Writer.
func (s *Side) Write(p []byte) (n int, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	for {
		took, err := s.down.put(p[n:])
		if n += took; n == len(p) || err != nil {
			return n, err
		}
		select {
		case <-s.down.went:
		case <-s.over:
			return n, s.cause()
		case <-s.session.ctx.Done():
			return n, context.Cause(s.session.ctx)
		}
	}
}

func (s *Side) cause() error { return cmp.Or(context.Cause(s.flow.life), net.ErrClosed) }

// CloseWrite ends the direction to the person, after what was written.
func (s *Side) CloseWrite() error {
	s.down.finish(io.EOF)
	return nil
}

// Close is the end of this flow in order; the session goes on with others.
func (s *Side) Close() error {
	s.finish(nil)
	return nil
}

// End ends the flow at once, whether it has a connection or not, and says why. What was written and is not on its way
// is lost.
func (s *Side) End(why error) { s.flow.end(reasonError(why)) }

// Record writes an event of this flow's to the audit log, as Session.Record does.
func (s *Side) Record(e audit.Event) error { return s.flow.recordProgram(e) }

// finish takes nothing more from the person, and passes the end on to them after what was written: in order, or why. Who
// does not end their direction in time is made to.
func (s *Side) finish(why error) {
	s.up.drop()
	s.down.finish(cmp.Or(why, io.EOF))
	time.AfterFunc(afterEnd, func() { s.flow.end(cmp.Or(why, error(errSessionOver))) })
}

// leave is called when the flow has ended.
func (s *Side) leave() {
	s.leaving.Do(func() {
		close(s.over)
		s.session.leave(s)
	})
}

// A half is one direction of a side.
type half struct {
	came, went chan struct{} // have a token when bytes or the end have come, when bytes have gone

	mu      sync.Mutex
	bytes   []byte // from start on; sideBuffer at most
	start   int
	end     error // that comes after the bytes; nil: none yet
	dropped bool  // nobody wants any more
}

func newHalf() *half { return &half{came: make(chan struct{}, 1), went: make(chan struct{}, 1)} }

var errEnded = errors.New("the direction has ended")

// put takes what there is room for.
func (h *half) put(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.dropped:
		return len(p), nil
	case h.end != nil:
		return 0, errEnded
	}
	n := min(len(p), sideBuffer-(len(h.bytes)-h.start))
	if h.start > 0 && len(h.bytes)+n > cap(h.bytes) {
		h.bytes = h.bytes[:copy(h.bytes, h.bytes[h.start:])]
		h.start = 0
	}
	h.bytes = append(h.bytes, p[:n]...)
	if n > 0 {
		signal(h.came)
	}
	return n, nil
}

// take gives what there is, and the end after that; 0 and nil are nothing yet.
func (h *half) take(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.start == len(h.bytes) {
		return 0, h.end
	}
	n := copy(p, h.bytes[h.start:])
	clear(h.bytes[h.start : h.start+n]) // it may have been a password
	if h.start += n; h.start == len(h.bytes) {
		h.bytes, h.start = h.bytes[:0], 0
	}
	signal(h.went)
	return n, nil
}

// finish ends the direction; the first end counts.
func (h *half) finish(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.end == nil {
		h.end = err
	}
	signal(h.came)
	signal(h.went)
}

// drop throws away what is there and what will come.
func (h *half) drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.bytes)
	h.bytes, h.start, h.dropped, h.end = nil, 0, true, cmp.Or(h.end, net.ErrClosed)
	signal(h.came)
	signal(h.went)
}

// held is how many bytes are there, and whether taking would not wait.
func (h *half) held() (bytes int, ready bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	bytes = len(h.bytes) - h.start
	return bytes, bytes > 0 || h.end != nil
}

// room says whether putting would not wait.
func (h *half) room() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dropped || h.end != nil || len(h.bytes)-h.start < sideBuffer
}

// A sideConn is a side as the flow's relay has it, in a target's place.
type sideConn struct{ side *Side }

// WaitReadable implements relay.Source.
func (c *sideConn) WaitReadable(ctx context.Context, _ func()) (bool, error) {
	return true, c.wait(ctx, c.side.down.came, func() bool { _, ready := c.side.down.held(); return ready })
}

// Read implements relay.Source.
func (c *sideConn) Read(p []byte) (int, error) { return c.side.down.take(p) }

// Buffered implements relay.Source.
func (c *sideConn) Buffered() int {
	n, _ := c.side.down.held()
	return n
}

// Take implements relay.Taker.
func (c *sideConn) Take(p []byte) (int, error) { return c.side.up.put(p) }

// WaitWritable implements relay.Taker.
func (c *sideConn) WaitWritable(ctx context.Context) error {
	return c.wait(ctx, c.side.up.went, c.side.up.room)
}

// CloseWrite implements relay.Taker.
func (c *sideConn) CloseWrite() error {
	c.side.up.finish(io.EOF)
	return nil
}

// Close implements relay.Conn.
func (c *sideConn) Close() error {
	c.side.leave()
	return nil
}

func (c *sideConn) wait(ctx context.Context, change <-chan struct{}, ready func() bool) error {
	for !ready() {
		select {
		case <-change:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
