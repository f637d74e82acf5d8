package frame

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Reserve lends a slab's payload to be filled and committed; it blocks until the peer's limit and the replay buffer
// allow at least a byte. One caller at a time.
func (s *Stream) Reserve(ctx context.Context) ([]byte, error) {
	return s.reserve(ctx.Done(), func() error { return context.Cause(ctx) })
}

func (s *Stream) reserve(done <-chan struct{}, cause func() error) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.err != nil:
			return nil, s.err
		case s.finQueued:
			return nil, net.ErrClosed
		}
		if room := s.sendLimit - s.committed; room > 0 && s.hold(s.slabSize()) {
			if s.lent = s.spare; s.lent == nil {
				s.lent = newSlab(s.slabSize()) // a spare has that size too
			}
			s.spare = nil
			b := s.lent
			b.from, b.to = headroom, headroom
			most := b.mem[b.from:]
			return most[:min(uint64(len(most)), fullData, room)], nil
		}
		changed := s.wait()
		s.mu.Unlock()
		select {
		case <-changed:
		case <-done:
			s.mu.Lock()
			return nil, cause()
		}
		s.mu.Lock()
	}
}

// hold counts a slab of n bytes that is about to be lent, if it may be: beyond the first few the governor has a say.
// Whoever is refused holds slabs already, and tries again when one of them is acknowledged. The caller holds mu.
func (s *Stream) hold(n int) bool {
	if s.held >= s.opts.MaxHeld {
		return false
	}
	if over := s.held + n - freeReplay; over > s.covered {
		if !s.opts.Governor.take(over - s.covered) {
			return false
		}
		s.covered = over
	}
	s.held += n
	return true
}

// letGo is the reverse of hold. The caller holds mu.
func (s *Stream) letGo(n int) {
	s.held -= n
	if over := max(0, s.held-freeReplay); over < s.covered {
		s.opts.Governor.give(s.covered - over)
		s.covered = over
	}
}

func (s *Stream) slabSize() int {
	if s.large {
		return largeSlab
	}
	return smallSlab
}

// Commit sends the first n bytes of what Reserve lent.
func (s *Stream) Commit(n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.lent
	if b == nil || n < 0 || b.from+n > len(b.mem) {
		panic("frame: Commit without Reserve, or of more than was lent")
	}
	s.lent = nil
	if n == 0 || s.err != nil || s.finQueued {
		s.letGo(len(b.mem))
		b.release()
		if n > 0 && s.err == nil {
			return net.ErrClosed // by another goroutine, since Reserve: FIN may have left
		}
		return s.err
	}
	s.large = b.to+n == len(b.mem) || len(b.mem) == largeSlab && n > smallSlab
	b.to += n
	b.offset = s.committed
	s.committed += uint64(n)

	// While the writer is behind, small pieces join the slab before them: one frame instead of many.
	if k := s.replay.len(); k > s.unsent && n <= smallSlab {
		if last := s.replay.at(k - 1); len(last.mem)-last.to >= n {
			last.to += copy(last.mem[last.to:], b.mem[b.from:b.to])
			s.letGo(len(b.mem))
			s.spare = b
			s.keepSpare()
			return nil
		}
	}
	s.replay.push(b)
	s.start()
	return nil
}

// keepSpare gives an unused slab back unless the writer is so far behind that the next Reserve comes at once.
func (s *Stream) keepSpare() {
	if len(s.spare.mem) != s.slabSize() || !s.writing {
		s.spare.release()
		s.spare = nil
	}
}

// Write implements net.Conn. It returns when all of p is in the replay buffer.
func (s *Stream) Write(p []byte) (n int, err error) {
	s.listen() // for the acknowledgements
	s.send.Lock()
	defer s.send.Unlock()
	for first := true; first || len(p) > 0; first = false {
		done := s.writeBy.wait()
		if isClosed(done) {
			return n, os.ErrDeadlineExceeded
		}
		if len(p) == 0 {
			return n, s.failure()
		}
		b, err := s.reserve(done, func() error { return os.ErrDeadlineExceeded })
		if err != nil {
			return n, err
		}
		k := copy(b, p)
		if err := s.Commit(k); err != nil {
			return n, err
		}
		p, n = p[k:], n+k
	}
	return n, nil
}

func (s *Stream) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && s.finQueued {
		return net.ErrClosed
	}
	return s.err
}

// CloseWrite says that no more bytes follow; what was written still arrives.
func (s *Stream) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.finQueued = true
	s.start()
	s.wake()
	return nil
}

// Read implements net.Conn. The first call starts a goroutine that reads the carrier until the flow has ended.
func (s *Stream) Read(p []byte) (int, error) {
	s.listen()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		done := s.readBy.wait()
		switch {
		case isClosed(done):
			return 0, os.ErrDeadlineExceeded
		case s.deaf:
			return 0, net.ErrClosed
		case len(p) == 0:
			return 0, s.err
		case s.spill.len() > 0:
			n := 0
			for n < len(p) && s.spill.len() > 0 {
				b := s.spill.at(0)
				k := copy(p[n:], b.mem[b.from:b.to])
				b.from, n = b.from+k, n+k
				if b.from == b.to {
					s.spill.pop().release()
				}
			}
			s.took(n)
			return n, nil
		case s.finTaken:
			return 0, io.EOF
		case s.finSeen && s.err == nil:
			s.tookFin()
			return 0, io.EOF
		case s.err != nil:
			return 0, s.err
		}
		changed := s.wait()
		s.mu.Unlock()
		select {
		case <-changed:
		case <-done:
		}
		s.mu.Lock()
	}
}

// listen starts the goroutine that has the reader's role for Read.
func (s *Stream) listen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.reading {
		s.reading = true
		go s.readToEnd()
	}
}

func (s *Stream) readToEnd() {
	s.read(context.Background())
	s.hangUp()
}

// Close ends the flow: what was written still leaves, for ten seconds at most, and nothing more is read. A peer whose
// bytes nobody will take is told E_CLOSED. A Deliver under way returns when the flow has ended.
func (s *Stream) Close() error {
	s.mu.Lock()
	again := s.deaf
	s.deaf = true
	s.wake()
	if s.err != nil || s.orphan {
		s.fail(closedHere()) // of an orphan
		mine := s.takeRole()
		s.mu.Unlock()
		if mine {
			s.hangUp()
		}
		return nil
	}
	defer s.mu.Unlock()
	if again {
		return nil
	}
	if !s.draining { // else drain does both
		s.discard()
		s.refuseRest()
	}
	s.finQueued = true
	s.start()
	if !s.reading {
		s.reading = true
		go s.readToEnd()
	}
	if s.err == nil {
		// Whatever hangs now hangs no longer than this.
		s.grace = time.AfterFunc(closeGrace, func() { s.Reset(closedHere().Reason) })
	}
	return nil
}

// refuseRest does for a stream that was closed what a next hop would do for one that is read: it takes FIN if nothing
// came before it that nobody took, else it resets the flow as soon as our own bytes have all left, on a carrier that can
// say so. The caller holds mu.
func (s *Stream) refuseRest() {
	switch {
	case s.wasted && s.unsent == s.replay.len() && s.at != nil && !s.at.mute:
		s.fail(closedHere())
	case !s.wasted && s.finSeen && !s.finTaken:
		s.tookFin()
	}
}

// LocalAddr implements net.Conn.
func (s *Stream) LocalAddr() net.Addr { return s.opts.LocalAddr }

// RemoteAddr implements net.Conn.
func (s *Stream) RemoteAddr() net.Addr { return s.opts.RemoteAddr }

// SetDeadline implements net.Conn; a deadline concerns Read and Write, not the flow.
func (s *Stream) SetDeadline(t time.Time) error {
	s.readBy.set(t)
	s.writeBy.set(t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (s *Stream) SetReadDeadline(t time.Time) error {
	s.readBy.set(t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.writeBy.set(t)
	return nil
}

// A deadline is a channel that is closed once its time has come. Its zero value is no deadline.
type deadline struct {
	mu      sync.Mutex
	timer   *time.Timer
	expired chan struct{} // nil until somebody asks
}

func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.channel()
}

func (d *deadline) channel() chan struct{} {
	if d.expired == nil {
		d.expired = make(chan struct{})
	}
	return d.expired
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil && !d.timer.Stop() {
		<-d.expired // the timer's function is running; it ends by closing
	}
	d.timer = nil
	if isClosed(d.channel()) {
		d.expired = make(chan struct{})
	}
	switch expired := d.expired; {
	case t.IsZero():
	case time.Until(t) <= 0:
		close(expired)
	default:
		d.timer = time.AfterFunc(time.Until(t), func() { close(expired) })
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
