package frame

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// A script is a carrier whose peer has said all that it will say. What is written to it is kept.
type script struct {
	mu      sync.Mutex
	in      []byte
	piece   func() int // how much one Read returns; nil: all that fits
	hold    bool       // after the last byte nothing comes, not even the end
	deaf    bool       // the peer does not read: writes block
	changed *sync.Cond
	out     bytes.Buffer
	closed  bool
	ended   bool // our direction, in order
	readBy  time.Time
	writeBy time.Time
}

func newScript(in []byte) *script {
	s := &script{in: in}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *script) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, net.ErrClosed
		case !s.readBy.IsZero() && !time.Now().Before(s.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(s.in) > 0:
			n := len(p)
			if s.piece != nil {
				n = min(n, s.piece())
			}
			n = copy(p[:n], s.in)
			s.in = s.in[n:]
			return n, nil
		case !s.hold:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed || s.ended:
			return 0, net.ErrClosed
		case !s.writeBy.IsZero() && !time.Now().Before(s.writeBy):
			return 0, os.ErrDeadlineExceeded
		case !s.deaf:
			return s.out.Write(p)
		}
		s.changed.Wait()
	}
}

func (s *script) set(at *time.Time, t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	*at = t
	s.changed.Broadcast()
	if d := time.Until(t); d > 0 {
		time.AfterFunc(d, s.wake)
	}
	return nil
}

func (s *script) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed.Broadcast()
}

func (s *script) SetReadDeadline(t time.Time) error  { return s.set(&s.readBy, t) }
func (s *script) SetWriteDeadline(t time.Time) error { return s.set(&s.writeBy, t) }

func (s *script) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return nil
}

func (s *script) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed.Broadcast()
	return nil
}

// say lets the peer say more.
func (s *script) say(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in = append(s.in, b...)
	s.changed.Broadcast()
}

// told are the frames that were written to s.
func (s *script) told() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	r := bytes.NewReader(s.out.Bytes())
	for {
		h, p, err := ReadFrame(r)
		if err != nil {
			return all
		}
		all = append(all, Describe(h, p))
	}
}
