package frame

import (
	"context"
	"encoding/binary"
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

// The limits of waiting for a peer.
const (
	confirmIn  = 10 * time.Second  // a client that was answered confirms, or its carrier is lost
	ackStall   = 120 * time.Second // without an ACK for bytes that were sent, after which the flow ends
	askPeer    = 15 * time.Second  // without an ACK, after which a peer is asked; when nothing comes in as long again it is gone
	ackAgain   = 30 * time.Second  // after which a receiver whose next hop takes nothing says so again
	resumeWait = 10 * time.Second  // for the answer to a RESUME
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
// Whatever the error, c is closed, if the flow has not ended on it: then it is as with any other end.
func (s *Stream) Resume(ctx context.Context, c Carrier, b *Bond) error {
	at := newAttachment(c)
	err := s.resume(ctx, at, b)
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

func (s *Stream) resume(ctx context.Context, at *attachment, b *Bond) error {
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
	s.mu.Unlock()

	answer, err := s.ask(ctx, at, request)
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
	return s.attach(ctx, at, b, try, answer)
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
			err = s.control(ctx, at, h, p, nil)
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

// attach gives the flow to an attempt that was answered, unless another one has it.
func (s *Stream) attach(ctx context.Context, at *attachment, b *Bond, try attempt, answer *Resumed) error {
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

// Keep lets the appliance's end of a flow outlive its carrier, which is on the connection of b: when the carrier is lost
// the flow waits for Attach. It comes before Accept.
func (in *Incoming) Keep(b *Bond, flow, session []byte) error {
	key, err := firstKey(b, flow, session)
	if err != nil {
		return err
	}
	s := in.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = &keyring{user: b.User, device: b.Device, key: key}
	s.attached++
	return nil
}

// An Attachment says what Attach has done.
type Attachment int

const (
	Attached Attachment = iota
	Answered            // the flow is over in order, which the client had missed and has been told
	Unknown             // the proof is not valid; the flow is as it was
	LostRace            // the attempt is one that the client has given up; the flow is as it was
	Forked              // the proof is one that nobody should have: the flow's key is in two places
	Over                // the flow has ended, not in order: the error says why
	Denied              // by allow, whose error is returned; the flow is as it was
)

// Attach judges a RESUME of this flow that came on the connection of b, and if its proof is good and allow, which must
// not block, says nothing against it, moves the flow to the RESUME's carrier: the one before is fenced, the client is told
// where to go on, and must confirm. Whatever else is returned, the caller answers in.
func (s *Stream) Attach(in *Incoming, b *Bond, allow func() error) (Attachment, error) {
	r := in.Resume
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		return Unknown, nil
	}
	switch s.keys.judge(b, r) {
	case unknown:
		return Unknown, nil
	case lostRace:
		return LostRace, nil
	case forked:
		return Forked, nil
	}
	if s.err == nil && !s.finished() {
		if err := allow(); err != nil {
			return Denied, err
		}
		s.fence()
	}
	switch {
	case r.Epoch != s.keys.epoch || s.at != nil && s.err == nil && !s.finished(): // another good RESUME was faster
		return LostRace, nil
	case s.finished(): // the client has missed our last acknowledgement
		answer := s.resumed(b, r)
		s.mu.Unlock()
		in.last(TypeResumed, answer) // waits for the client to hang up
		s.mu.Lock()
		return Answered, nil
	case s.err != nil:
		return Over, s.err
	}
	at := in.handOver(s)
	at.mute, at.attempt = true, nonce(r.Nonce)
	s.forget()
	at.first = Append(nil, TypeResumed, s.resumed(b, r))
	s.moveTo(at)
	if r.Received > s.reached { // it may well be older than what was acknowledged
		s.fail(s.desync(r.Received))
	}
	s.start()
	at.confirm = time.AfterFunc(confirmIn, func() { s.unconfirmed(at) })
	return Attached, nil
}

// resumed is the answer to r. The caller holds mu.
func (s *Stream) resumed(b *Bond, r *Resume) *Resumed {
	s.limit = max(s.limit, s.taken+uint64(s.room))
	s.told = s.taken
	d := &Resumed{Received: s.taken, Limit: s.limit}
	s.keys.answer(b, r, d)
	return d
}

// unconfirmed gives up a carrier whose client got RESUMED and said nothing to it.
func (s *Stream) unconfirmed(at *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at == s.at && at.mute {
		s.lose(at, errors.New("the client did not confirm that it resumes"))
	}
}

// confirmed takes the first ACK after RESUMED: it says where to go on. The caller holds mu.
func (s *Stream) confirmed(at *attachment, a Ack) error {
	switch {
	case s.err != nil:
		return nil
	case !s.keys.confirm(at.attempt, a.Nonces):
		return Refuse(AckBad, "the first acknowledgement after RESUMED does not confirm it", "")
	case !s.owns(a.Acked) || a.Limit < s.sendLimit:
		return s.desync(a.Acked)
	}
	at.mute = false
	at.confirm.Stop()
	s.rewind(a.Acked)
	s.sendLimit = a.Limit
	s.ackDue = true // so that the client knows that we know
	s.ackAt = time.Now()
	s.wake()
	s.start()
	return nil
}

// age is how long there has been the flow, by the monotonic clock.
func (s *Stream) age() time.Duration { return time.Since(s.born) }

// Vitals say how a flow is.
type Vitals struct {
	End        error         // why the flow ended; net.ErrClosed in order, nil: it lives
	Closed     bool          // Close was called
	Ending     bool          // both directions have ended, and only the peer's acknowledgement of that is missing
	Kept       bool          // it may lose its carrier and live
	Attached   int           // how many carriers it has had
	Lost       error         // why the last one was, if the flow has none now
	Detached   time.Duration // since when it has none
	Silent     time.Duration // since the peer has said anything
	Unanswered time.Duration // since the PING left that the peer has not answered; 0: none
	RTT        time.Duration // of those that it did, about the least lately; 0: none
	Waiting    bool          // bytes are on their way that the peer has not acknowledged
	Sent       uint64        // offset after the last byte given to the carrier
	Acked      uint64        // offset after the last that the peer's next hop took
	Taken      uint64        // offset after the last that our next hop took
}

// Vitals returns how the flow is now.
func (s *Stream) Vitals() Vitals {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.age()
	v := Vitals{Kept: s.resumable(), Attached: s.attached, Silent: now - time.Duration(s.heard.Load()), RTT: s.rtt,
		Waiting: s.replay.len() > 0 || s.finQueued && !s.finAcked, Sent: s.sent, Acked: s.acked, Taken: s.taken}
	v.End, v.Closed, v.Ending = s.err, s.deaf, s.finTaken && s.finQueued && s.acked >= s.committed
	if v.End == nil && s.finished() {
		v.End = net.ErrClosed
	}
	if s.asked > 0 {
		v.Unanswered = now - s.asked
	}
	if s.at == nil && s.lostBy != nil {
		v.Lost, v.Detached = s.lostBy, time.Since(s.lostAt)
	}
	return v
}

// Probe sends a PING, unless one is under way already.
func (s *Stream) Probe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.probe()
}

// probe is Probe. The caller holds mu.
func (s *Stream) probe() {
	if s.err != nil || s.at == nil || s.asked > 0 {
		return
	}
	s.asked = max(1, s.age())
	s.ping = [8]byte(binary.BigEndian.AppendUint64(nil, uint64(s.asked)))
	s.extra = AppendProbe(s.extra, TypePing, s.ping)
	s.start()
}

// ponged takes a PONG; one that nobody waits for is ignored.
func (s *Stream) ponged(id [8]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == 0 || id != s.ping {
		return
	}
	// One answer that an outage held up must not make the way look long.
	rtt := s.age() - s.asked
	if s.asked = 0; s.rtt == 0 || rtt < s.rtt {
		s.rtt = rtt
	} else {
		s.rtt += (rtt - s.rtt) / 8
	}
}

// watchTaker says again and again what was taken while the next hop takes nothing more: so a peer knows that it is heard.
// Only a client does; its appliance may wait. The caller holds mu.
func (s *Stream) watchTaker() {
	switch {
	case s.ticket == nil || s.stuckSet || s.spill.len() == 0 || s.err != nil:
		return
	case s.stuck == nil:
		s.stuck = time.AfterFunc(ackAgain, s.ackStuck)
	default:
		s.stuck.Reset(ackAgain)
	}
	s.stuckSet = true
}

func (s *Stream) ackStuck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuckSet = false
	if s.watchTaker(); s.stuckSet {
		s.ackDue = s.at != nil
		s.start()
	}
}

// watchAcks begins to wait for the acknowledgement of what is about to be sent. Only an appliance does: its client may
// be anybody's. The caller holds mu.
func (s *Stream) watchAcks() {
	switch {
	case s.keys == nil || s.stallSet:
		return
	case s.stall == nil:
		s.stall = time.AfterFunc(askPeer, s.checkAcks)
	default:
		s.stall.Reset(askPeer)
	}
	s.stallSet = true
}

// checkAcks ends a flow whose client answers PINGs and acknowledges nothing, and detaches one whose client is silent.
func (s *Stream) checkAcks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stallSet = false
	if s.err != nil || s.at == nil || s.acked >= s.sent {
		return // a carrier that comes begins anew
	}
	quiet, silent := time.Since(s.ackAt), s.age()-time.Duration(s.heard.Load())
	switch {
	case quiet < askPeer:
		s.stall.Reset(askPeer - quiet)
	case silent >= askPeer && s.asked > 0 && s.age()-s.asked >= askPeer: // who has had nothing to say was not silent
		s.lose(s.at, errors.New("the client has gone silent"))
		return
	case quiet >= ackStall:
		s.fail(Refuse("E_ACK_STALL", "the client has acknowledged nothing for two minutes", "connect again"))
		return
	default:
		s.probe()
		s.stall.Reset(min(askPeer, ackStall-quiet))
	}
	s.stallSet = true
}
