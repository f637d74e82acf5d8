package frame

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
)

// resumption is what a Stream needs to live on without its carrier. Its zero value is that of a flow which ends with it.
// The stream's mu guards it.
type resumption struct {
	ticket *ticket  // the client's
	keys   *keyring // the appliance's
	met    bool     // the appliance's: the client knows of the flow

	attached int       // how often
	lostBy   error     // why the last carrier was
	lostAt   time.Time // and when

	born     time.Time
	heard    atomic.Int64  // when a frame came, as an age of the flow
	asked    time.Duration // when the PING left that nobody has answered, likewise; 0: none
	ping     [8]byte
	rtt      time.Duration // of PINGs: the least lately
	ackAt    time.Time     // when an ACK came, or the first byte left after all were acknowledged
	stall    *time.Timer   // runs checkAcks, if stallSet
	stallSet bool
	stuck    *time.Timer // runs ackStuck, if stuckSet
	stuckSet bool
}

const (
	confirmIn  = 10 * time.Second // a client that was answered confirms, or its carrier is lost
	resumeWait = 10 * time.Second // for the answer to a RESUME
)

// Keep lets the client's end of a flow outlive its carrier, which is on the connection of b: when the carrier is lost the
// flow waits for Resume. Without Keep, or where the appliance grants no grace, a flow ends with its carrier.
func (s *Stream) Keep(b *Bond, o *Opened) error {
	if o.Grace <= 0 {
		return nil
	}
	key, err := firstKey(b, o.Flow, o.Session)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ticket = &ticket{flow: o.Flow, key: key}
	s.attached++
	s.oweAck(true) // now the appliance knows that we do
	return nil
}

// resumable says whether the flow may lose its carrier and live. The caller holds mu.
func (s *Stream) resumable() bool { return s.ticket != nil || s.keys != nil && s.met }

// Detached blocks until the flow has no carrier, and returns why the last one was lost; then end is nil. If the flow
// ends first, or has, it returns with the flow's end: net.ErrClosed in order.
func (s *Stream) Detached(ctx context.Context) (why error, end error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.err != nil:
			return nil, s.err
		case s.finished():
			return nil, net.ErrClosed
		case s.at == nil:
			return s.lostBy, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		}
		changed := s.wait()
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
}

// Done is closed when the flow has ended, in order or not.
func (s *Stream) Done() <-chan struct{} { return s.done }

// GiveUp ends a flow that nobody will resume, for why.
func (s *Stream) GiveUp(why error) {
	s.mu.Lock()
	s.end(why)
	s.part(false)
	mine := s.takeRole()
	s.mu.Unlock()
	if mine {
		s.hangUp()
	}
}

// ErrSuperseded is Resume's error when another attempt has the flow.
var ErrSuperseded = errors.New("frame: another attempt has the flow")

// Resume moves the client's end of a flow to c, which is on the connection of b. The carrier before it, if there still
// is one, keeps the flow until the appliance has answered. Resume may be called for several carriers at once: one gets
// the flow, the others ErrSuperseded. A refusal is a *StreamError with Remote set; the flow itself does not end by it.
// why is told to the appliance, for whoever
// looks. Whatever the error, c is closed, if the flow has not ended on it: then it is as with any other end.
func (s *Stream) Resume(ctx context.Context, c Carrier, b *Bond, why Why) error {
	at := newAttachment(c)
	err := s.resume(ctx, at, b, why)
	if err != nil {
		s.mu.Lock()
		mine := at == s.at
		s.mu.Unlock()
		if !mine {
			at.close()
		}
	}
	return err
}

func (s *Stream) resume(ctx context.Context, at *attachment, b *Bond, why Why) error {
	s.mu.Lock()
	if s.ticket == nil || s.err != nil {
		defer s.mu.Unlock()
		if s.err == nil {
			return errors.New("frame: the flow was not kept")
		}
		return s.err
	}
	s.limit = max(s.limit, s.taken+uint64(s.room))
	try, request := s.ticket.try(b, s.taken, s.limit)
	request.Why = why
	s.mu.Unlock()

	asked := time.Now()
	answer, err := s.ask(ctx, at, request)
	took := time.Since(asked)
	if err != nil {
		var refusal *StreamError
		if errors.As(err, &refusal) && refusal.Code == ResumeUnknown {
			s.mu.Lock()
			defer s.mu.Unlock()
			if other := s.ticket.refused(try); other != nil {
				return other
			}
		}
		return err
	}
	if !try.verify(b, request, answer) {
		return errors.New("frame: the appliance's proof is not valid")
	}
	return s.attach(ctx, at, b, try, answer, took)
}

// errLostAnswer is the error of an attempt that another one may repair.
var errLostAnswer = errors.New("frame: the appliance has not heard of the epoch before this attempt")

// ask sends a RESUME and waits for the answer to it.
func (s *Stream) ask(ctx context.Context, at *attachment, r *Resume) (*Resumed, error) {
	at.SetWriteDeadline(time.Now().Add(resumeWait))
	at.SetReadDeadline(time.Now().Add(resumeWait))
	stop := context.AfterFunc(ctx, at.cut) // not before: it sets the same deadlines
	defer stop()
	_, err := at.Write(Append(nil, TypeResume, r))
	for err == nil {
		var h Header
		var p []byte
		if h, p, err = ReadFrame(at); err != nil {
			break
		}
		switch h.Type {
		case TypeResumed:
			var answer Resumed
			if err := Parse(h.Type, p, &answer); err != nil {
				return nil, err
			}
			if !stop() {
				return nil, context.Cause(ctx)
			}
			at.SetReadDeadline(time.Time{})
			at.SetWriteDeadline(time.Time{})
			return &answer, nil
		case TypeRefused, TypeReset:
			var reason Reason
			if err := Parse(h.Type, p, &reason); err != nil {
				return nil, err
			}
			return nil, &StreamError{Reason: reason.clipped(), Remote: true}
		case TypeSuperseded:
			return nil, ErrSuperseded
		case TypePing:
			_, err = at.Write(AppendProbe(nil, TypePong, [8]byte(p)))
		case TypePong:
		case TypeNotice, TypeDrain:
			err = s.control(ctx, at, h, p)
		default:
			return nil, unexpectedFrame(h.Type)
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var session *SessionError
	if errors.As(err, &session) {
		return nil, err
	}
	e := *lost(err).(*StreamError)
	e.Remote = false // whoever says so: it is not the answer to RESUME
	return nil, &e
}

// attach gives the flow to an attempt that was answered after so long, unless another one has it.
func (s *Stream) attach(ctx context.Context, at *attachment, b *Bond, try attempt, answer *Resumed, took time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.err != nil:
			return s.err
		case s.ticket.late(try):
			return ErrSuperseded // by one that the appliance has heard of
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if s.at == nil || !s.at.unsettled || try.epoch > s.ticket.epoch {
			if s.fence(); s.at == nil && s.err == nil && !s.ticket.late(try) {
				break
			}
			continue // another attempt was faster
		}
		// Another attempt of this epoch has the flow. Which of the two the appliance has answered last, and so holds to,
		// is known when that one hears from it, or is lost.
		changed := s.wait()
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
	next, listed := s.ticket.attach(b, try, answer)
	at.unsettled, at.next = true, next
	s.moveTo(at)
	s.rtt = min(took, longestGuess) // until a PING says better: this way may be longer than the one before
	if !s.owns(answer.Received) || answer.Limit < s.sendLimit {
		s.fail(s.desync(answer.Received))
		return s.err
	}
	s.forget()
	s.rewind(answer.Received)
	s.sendLimit = answer.Limit
	confirm := s.ack()
	confirm.Nonces = listed
	at.first = confirm.Append(nil)
	s.start()
	return nil
}

// moveTo makes at the flow's carrier. The caller holds mu and has fenced.
func (s *Stream) moveTo(at *attachment) {
	s.at = at
	s.attached++
	s.asked = 0
	s.heard.Store(int64(s.age()))
	s.ackAt = time.Now()
	s.wake()
}

func (s *Stream) desync(offset uint64) error {
	return Refuse("E_RESUME_DESYNC", fmt.Sprintf("the two ends disagree about the flow: %d bytes taken, %d acknowledged, %d sent", offset, s.acked, s.sent),
		"connect again")
}

// supersededHere says whether SUPERSEDED may be the work of an attempt of ours: then the flow is not another's. The
// caller holds mu.
func (s *Stream) supersededHere() bool { return s.ticket != nil && len(s.ticket.attempts) > 0 }

// hear notes that the peer has said something. What an appliance says only to a client that has confirmed settles the
// epoch.
func (s *Stream) hear(at *attachment, t Type) {
	s.heard.Store(int64(s.age()))
	if !at.unsettled || t != TypeAck && t != TypeData && t != TypeFin {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at == s.at {
		at.unsettled = false
		s.ticket.settle(at.next)
		s.wake()
	}
}
