package frame

import (
	"encoding/binary"
	"errors"
	"net"
	"time"
)

// The limits of waiting for a peer.
const (
	askPeer      = 15 * time.Second  // without an ACK, after which a peer is asked; when nothing comes in as long again it is gone
	ackStall     = 120 * time.Second // without an ACK for bytes that were sent, after which the flow ends
	longestGuess = time.Second       // of a delay that no PING has measured yet
	ackAgain     = 30 * time.Second  // after which a receiver whose next hop takes nothing says so again
)

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

// Nudge sends the PING that the peer has not answered once more. Below us a transport that waits ever longer between its
// own attempts sends it at once, and learns from the answer what else was lost.
func (s *Stream) Nudge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && s.at != nil && s.asked > 0 && len(s.extra) < maxExtra {
		s.extra = AppendProbe(s.extra, TypePing, s.ping)
		s.start()
	}
}

// ponged takes a PONG; one that nobody waits for is ignored.
func (s *Stream) ponged(id [8]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == 0 || id != s.ping {
		return
	}
	rtt := s.age() - s.asked
	s.asked = 0
	s.measured(rtt)
}

// measured takes how long an answer took. One that an outage held up must not make the way look long. The caller holds mu.
func (s *Stream) measured(rtt time.Duration) {
	if s.rtt == 0 || rtt < s.rtt {
		s.rtt = rtt
	} else {
		s.rtt += (min(rtt, 2*s.rtt) - s.rtt) / 8
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
