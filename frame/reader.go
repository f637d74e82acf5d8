package frame

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
)

// Deliver is the reader's role, run in the calling goroutine: it reads the carrier until the flow has ended and offers
// what arrives to dst, without ever blocking on dst. It returns nil when both directions have ended in order, the
// cause of ctx, dst's error, or the *StreamError that ended the flow. After an error that is not the flow's own, the
// caller ends the flow with Reset.
func (s *Stream) Deliver(ctx context.Context, dst Taker) error {
	if err := s.deliverTo(dst); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, s.cutReader)
	err := s.read(ctx)
	stop()
	return s.delivered(ctx, err)
}

// deliverTo takes the reader's role, with a next hop.
func (s *Stream) deliverTo(dst Taker) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !s.reading:
		s.reading, s.taker, s.delivering = true, dst, true
		return nil
	case s.err != nil:
		return s.err
	}
	return errors.New("frame: the stream is being read already")
}

// cutReader makes Deliver return.
func (s *Stream) cutReader() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.delivering && s.at != nil {
		s.at.SetReadDeadline(time.Unix(1, 0))
	}
}

// balk ends Deliver, for its next hop has failed. The caller holds mu.
func (s *Stream) balk(err error) {
	if s.balked == nil && s.delivering { // else Deliver itself has ended the wait
		s.balked = err
	}
	if s.delivering && s.at != nil {
		s.at.SetReadDeadline(time.Unix(1, 0))
	}
	s.wake()
}

// stopped is why Deliver has to return while the flow goes on. The caller holds mu.
func (s *Stream) stopped(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause // a hop that waited says what became of its wait
	}
	return s.balked
}

// delivered ends Deliver after read has returned err.
func (s *Stream) delivered(ctx context.Context, err error) error {
	s.mu.Lock()
	s.delivering = false
	if s.stopDrain != nil {
		s.stopDrain()
	}
	for s.draining {
		changed := s.wait()
		s.mu.Unlock()
		<-changed
		s.mu.Lock()
	}
	if why := s.stopped(ctx); why != nil && s.err == nil && !s.finished() {
		// The flow could go on, but nobody reads it: Reset tells the peer why.
		s.orphan = true
		s.mu.Unlock()
		return why
	}
	s.mu.Unlock()
	s.hangUp()
	return err
}

// read reads frames, from one carrier after the other, until the flow has ended; nil means in order.
func (s *Stream) read(ctx context.Context) error {
	for {
		at, err := s.board(ctx)
		for err == nil {
			var h Header
			if h, err = ReadHeader(at, &s.head); err == nil { // here, where little is on the stack
				err = s.frame(ctx, at, h)
				if h.Length >= largeFrame {
					runtime.Gosched()
				}
			}
		}
		if again, err := s.alight(ctx, at, err); !again {
			return err
		}
	}
}

// board waits for a carrier to read from.
func (s *Stream) board(ctx context.Context) (*attachment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.at == nil && s.err == nil && s.stopped(ctx) == nil {
		changed := s.wait()
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
	if why := s.stopped(ctx); why != nil {
		return nil, why
	}
	if s.at == nil {
		return nil, s.err
	}
	s.at.reading = true
	return s.at, nil
}

// alight says what the end of reading from a carrier means: the flow is over, nil in order, or goes on elsewhere.
func (s *Stream) alight(ctx context.Context, at *attachment, err error) (again bool, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at != nil {
		at.reading = false
		s.leave(at)
	}
	var session *SessionError
	var stream *StreamError
	switch {
	case s.finished():
		return false, nil
	case s.err != nil:
		return false, s.err
	case s.stopped(ctx) != nil:
		return false, s.stopped(ctx)
	case at != s.at:
		return true, nil // it was fenced: whatever it said last is void
	case errors.As(err, &session):
		s.fail(session)
	case errors.As(err, &stream) && stream.Remote && (stream.Code == Lost || stream.Code == Superseded && s.supersededHere()):
		s.lose(at, err)
	case errors.As(err, &stream) && stream.Remote:
		s.end(stream)
		at.cut()
	case errors.As(err, &stream):
		s.fail(stream)
	default:
		s.lose(at, err)
	}
	return s.err == nil, s.err
}

// frame reads the rest of one frame and acts on it.
func (s *Stream) frame(ctx context.Context, at *attachment, h Header) error {
	s.hear(at, h.Type)
	switch {
	case h.Type == TypeData:
		return s.data(ctx, at, h.Length)
	case !h.Type.known():
		s.opts.Skipped(h.Type)
		return skip(at, h.Length)
	}
	p := s.short[:min(h.Length, len(s.short))]
	if h.Length > len(p) {
		p = make([]byte, h.Length)
	}
	if _, err := io.ReadFull(at, p); err != nil {
		return unexpected(err)
	}
	return s.control(ctx, at, h, p)
}

// control acts on a frame that is not DATA.
func (s *Stream) control(ctx context.Context, at *attachment, h Header, p []byte) error {
	switch h.Type {
	case TypeAck:
		a, err := ParseAck(p)
		if err != nil {
			return err
		}
		return s.acknowledged(at, a)
	case TypeFin:
		offset, err := parseFin(p)
		if err != nil {
			return err
		}
		return s.fin(ctx, at, offset)
	case TypeReset:
		var r Reason
		if err := Parse(h.Type, p, &r); err != nil {
			return err
		}
		return &StreamError{Reason: r.clipped(), Remote: true}
	case TypePing:
		s.mu.Lock()
		defer s.mu.Unlock()
		if at == s.at && len(s.pongs) < maxPongs {
			s.pongs = append(s.pongs, [8]byte(p))
			s.start()
		}
	case TypePong:
		s.ponged([8]byte(p))
	case TypeNotice:
		var n Notice
		if err := Parse(h.Type, p, &n); err != nil {
			return err
		}
		if s.opts.Notice != nil {
			s.opts.Notice(Notice{Text: Clip(n.Text, maxLine)})
		}
	case TypeDrain:
		var d Drain
		if err := Parse(h.Type, p, &d); err != nil {
			return err
		}
		if s.opts.Drain != nil {
			s.opts.Drain(Drain{Left: d.Left, Text: Clip(d.Text, maxLine)})
		}
	case TypeSuperseded:
		if s.keys != nil {
			return unexpectedFrame(h.Type) // a client does not say so
		}
		return &StreamError{Reason: Reason{Code: Superseded, Sentence: "another connection has taken this flow over"}, Remote: true}
	default:
		return unexpectedFrame(h.Type)
	}
	return nil
}

// acknowledged frees what the peer has taken and notes how far we may send.
func (s *Stream) acknowledged(at *attachment, a Ack) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at != s.at {
		return errFenced
	}
	if at.mute {
		return s.confirmed(at, a)
	}
	most := s.sent
	if s.finSent {
		most++
	}
	switch {
	case s.err != nil:
		return nil
	case len(a.Nonces) > 0:
		return Refuse(AckBad, "an acknowledgement confirms a RESUME that there was not", "")
	case a.Acked > most:
		return Refuse(AckBad, fmt.Sprintf("%d bytes were acknowledged, %d were sent", a.Acked, s.sent), "")
	case a.Acked < s.acked || a.Limit < s.sendLimit:
		return Refuse(AckBad, "an acknowledgement went back", "")
	}
	s.acked, s.sendLimit = a.Acked, a.Limit
	s.ackAt, s.met = time.Now(), true
	for s.unsent > 0 {
		b := s.replay.at(0)
		if b.offset+uint64(b.to-b.from) > s.acked {
			break
		}
		s.replay.pop()
		s.unsent--
		s.drop(b)
	}
	s.finAcked = s.finSent && s.acked == s.committed+1
	s.wake()
	s.start() // the flow may be finished now
	return nil
}

// data reads a DATA frame's payload into a slab and offers it to the next hop.
func (s *Stream) data(ctx context.Context, at *attachment, n int) error {
	s.mu.Lock()
	switch {
	case at != s.at:
		s.mu.Unlock()
		return errFenced
	case at.mute:
		s.mu.Unlock()
		return unexpectedFrame(TypeData)
	case s.finSeen:
		s.mu.Unlock()
		return Refuse(FinBad, "data came after FIN", "")
	case s.received+uint64(n) > s.limit:
		limit := s.limit
		s.mu.Unlock()
		return Refuse(Credit, fmt.Sprintf("data went beyond the limit of %d", limit), "")
	}
	s.mu.Unlock()

	b := newSlab(n)
	b.to = n
	if _, err := io.ReadFull(at, b.mem[:n]); err != nil {
		b.release()
		return unexpected(err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if at != s.at {
		b.release()
		return errFenced
	}
	s.received += uint64(n)
	if s.deaf || s.err != nil {
		b.release()
		if s.wasted = true; s.deaf {
			s.refuseRest()
		}
		return nil
	}
	// Frames that wait share slabs, or a peer could make one byte cost a whole one: what waits is at least about half of
	// what its slabs hold.
	if k := s.spill.len(); k > 0 && len(s.spill.at(k-1).mem)-s.spill.at(k-1).to >= n {
		last := s.spill.at(k - 1)
		last.to += copy(last.mem[last.to:], b.mem[:n])
		b.release()
	} else {
		s.spill.push(b)
	}
	s.wake()
	s.offer(ctx)
	s.watchTaker()
	return nil
}

// fin notes where the peer's direction ends.
func (s *Stream) fin(ctx context.Context, at *attachment, offset uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case at != s.at:
		return errFenced
	case at.mute:
		return unexpectedFrame(TypeFin)
	case s.finSeen:
		return Refuse(FinBad, "a second FIN came", "")
	case offset != s.received:
		return Refuse(FinBad, fmt.Sprintf("FIN states %d bytes, %d arrived", offset, s.received), "")
	}
	s.finSeen = true
	s.wake()
	s.offer(ctx)
	return nil
}

// offer gives the next hop what has arrived, as far as it takes it without blocking, and leaves the rest to drain.
// The caller holds mu and has the reader's role.
func (s *Stream) offer(ctx context.Context) {
	if s.draining {
		return
	}
	if s.deaf {
		s.refuseRest()
	}
	if s.deaf || s.taker == nil || s.err != nil {
		return
	}
	s.draining = true
	if s.pass(ctx, false) {
		s.draining = false
		if s.deaf {
			s.discard()
			s.refuseRest()
		}
		s.wake()
		return
	}
	if s.stopDrain == nil { // most flows never need it
		s.drainCtx, s.stopDrain = context.WithCancel(ctx)
	}
	go s.drain(s.drainCtx)
}

// drain passes on what the next hop did not take at once; it lives until everything is taken.
func (s *Stream) drain(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.deaf {
		s.mu.Unlock()
		err := s.taker.WaitWritable(ctx)
		s.mu.Lock()
		if err != nil {
			s.balk(err)
			break
		}
		if s.pass(ctx, true) {
			break
		}
	}
	s.draining = false
	if s.deaf {
		s.discard()
		s.refuseRest()
	}
	s.wake()
}

// pass offers the spill to the next hop until it is empty (true), the hop is full (false), or it fails (true, and
// Deliver balks). FIN waits until the hop can take more, for a hop may still be writing what it took. The caller holds
// mu and draining; mu is free while the hop works.
func (s *Stream) pass(ctx context.Context, writable bool) (done bool) {
	for s.spill.len() > 0 {
		b := s.spill.at(0)
		offered := b.mem[b.from:b.to] // what arrives meanwhile may join b behind it
		s.taking = true
		s.mu.Unlock()
		n, err := s.taker.Take(offered)
		s.mu.Lock()
		s.taking = false
		s.wake()
		b.from += n
		s.took(n)
		if b.from == b.to {
			s.spill.pop().release()
		}
		if err != nil {
			s.balk(err)
			return true
		}
		if s.stopped(ctx) != nil || s.deaf {
			return true
		}
		if n == 0 {
			return false
		}
		writable = false
	}
	if s.finSeen && !s.finTaken {
		if !writable {
			return false
		}
		s.taking = true
		s.mu.Unlock()
		err := s.taker.CloseWrite()
		s.mu.Lock()
		s.taking = false
		s.wake()
		if err != nil {
			s.balk(err)
			return true
		}
		s.tookFin()
	}
	return true
}

// took notes that the next hop has taken n bytes, and tells the peer, now or soon. The caller holds mu.
func (s *Stream) took(n int) {
	if n == 0 {
		return
	}
	s.taken += uint64(n)
	if s.err == nil {
		s.adjust(n)
	}
	s.oweAck(s.taken-s.told >= uint64(min(ackAt, s.room/4)))
}

// adjust changes the room after n bytes were taken. A peer that uses its whole room while our next hop keeps up gets
// twice the room. While the governor has little left, much room shrinks by what was taken, so that the limit which
// the peer knows stays true. The caller holds mu, and the flow has not ended: its room would never be given back.
func (s *Stream) adjust(n int) {
	most := s.opts.MaxRoom
	if s.opts.Governor.tight() {
		if less := min(n, s.room-fairRoom); less > 0 {
			s.room -= less
			s.opts.Governor.give(less)
			s.used = 0
			return
		}
		most = min(most, fairRoom)
	}
	if s.used += n; s.used >= s.room && s.spill.len() <= 1 {
		s.used = 0
		if more := min(s.room, most-s.room); more > 0 && s.opts.Governor.take(more) {
			s.room += more
		}
	}
}

// tookFin notes that the next hop knows of the peer's FIN. The caller holds mu.
func (s *Stream) tookFin() {
	s.finTaken = true
	s.taken++
	s.oweAck(true)
}

// oweAck has the writer send an ACK, at once or within ackDelay. The caller holds mu.
func (s *Stream) oweAck(now bool) {
	switch {
	case s.err != nil:
	case now:
		s.ackDue = true
		s.start()
	case s.ackTime == nil:
		s.ackArmed = true
		s.ackTime = time.AfterFunc(ackDelay, s.ackLate)
	case !s.ackArmed:
		s.ackArmed = true
		s.ackTime.Reset(ackDelay)
	}
}

// ackLate sends the ACK that waited for more to acknowledge.
func (s *Stream) ackLate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ackArmed = false
	if s.err == nil && s.taken != s.told {
		s.ackDue = true
		s.start()
	}
}
