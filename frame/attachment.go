package frame

import (
	"errors"
	"io"
	"sync"
	"time"
)

// An attachment is a carrier while it has the flow. The stream's mu guards its fields.
type attachment struct {
	Carrier
	reading, writing bool // the reader, the writer is at work on it
	torn             bool // a write was cut short, perhaps within a frame
	last             bool // everything was sent: our direction is closed
	cutOff           bool // it has lost the flow; leave closes it
	succeeded        bool // by another one, which its peer should hear

	first     []byte // RESUMED, or the ACK that confirms: the first frame to be sent on it
	mute      bool   // the appliance's: the client has not confirmed it, and is told nothing of the flow
	attempt   nonce  // of mute
	unsettled bool   // the client's: the appliance may not know yet that it was confirmed

	next resumeKey // of unsettled: the key of the epoch that this attachment begins

	confirm *time.Timer // ends a mute one

	closing sync.Mutex
	closed  bool
	gone    func() // runs when the carrier is closed
}

func newAttachment(c Carrier) *attachment { return &attachment{Carrier: c} }

// errFenced is what a reader gets that was still on a carrier which has lost the flow.
var errFenced = errors.New("frame: another carrier has the flow")

// cut makes whatever is blocked on the carrier return.
func (at *attachment) cut() {
	at.SetReadDeadline(time.Unix(1, 0))
	at.SetWriteDeadline(time.Unix(1, 0))
}

func (at *attachment) close() {
	at.closing.Lock()
	defer at.closing.Unlock()
	if at.closed {
		return
	}
	at.closed = true
	at.Close()
	if at.gone != nil {
		go at.gone()
	}
}

// onceClosed has gone called, in a goroutine of its own, when the carrier is closed.
func (at *attachment) onceClosed(gone func()) {
	at.closing.Lock()
	defer at.closing.Unlock()
	if at.gone = gone; at.closed {
		go gone()
	}
}

// sayGoodbye closes a carrier that has lost the flow. Its peer is told that another one has it, unless a write was cut
// short: nothing that follows could be read.
func (at *attachment) sayGoodbye(succeeded, torn bool) {
	if succeeded && !torn {
		at.SetWriteDeadline(time.Now().Add(farewell))
		at.SetReadDeadline(time.Now().Add(farewell))
		if _, err := at.Write(Header{TypeSuperseded, 0}.Append(nil)); err == nil && at.CloseWrite() == nil {
			io.Copy(io.Discard, io.LimitReader(at, 16<<20)) // closing earlier could destroy the frame on its way
		}
	}
	at.close()
}

// leave closes a carrier that has lost the flow once nobody works on it. The caller holds mu.
func (s *Stream) leave(at *attachment) {
	if !at.cutOff || at.reading || at.writing {
		return
	}
	at.cutOff = false // once
	s.leaving--
	go at.sayGoodbye(at.succeeded, at.torn)
	s.wake()
}

// part takes the flow away from its carrier, if it has one. Who reads or writes there is cut off, and leaves. The caller
// holds mu.
func (s *Stream) part(succeeded bool) *attachment {
	at := s.at
	if at == nil {
		return nil
	}
	s.at = nil
	at.cutOff, at.succeeded = true, succeeded
	s.leaving++
	if at.reading || at.writing {
		at.cut()
	}
	s.leave(at)
	s.pongs, s.ackDue = s.pongs[:0], false
	s.wake()
	return at
}

// detach leaves the flow without a carrier. The caller holds mu.
func (s *Stream) detach(why error) {
	s.part(false)
	s.lostBy, s.lostAt = why, time.Now()
}

// fence takes the flow away from its carrier and waits until nobody reads from that, writes to it, or works for what it
// brought. The caller holds mu.
func (s *Stream) fence() {
	s.part(s.keys != nil) // the appliance says so
	for s.taking || s.leaving > 0 {
		changed := s.wait()
		s.mu.Unlock()
		<-changed
		s.mu.Lock()
	}
}

// forget drops what has arrived and was not taken: the peer sends it again. The caller holds mu and has fenced.
func (s *Stream) forget() {
	for s.spill.len() > 0 {
		s.spill.pop().release()
	}
	s.received = s.taken
	if s.finSeen = s.finTaken; s.finTaken {
		s.received--
	}
}

// rewind makes offset, which the peer's next hop has taken, the place to send from. The caller holds mu and has fenced.
func (s *Stream) rewind(offset uint64) {
	s.acked = offset
	for s.replay.len() > 0 {
		b := s.replay.at(0)
		if end := b.offset + uint64(b.to-b.from); end > offset {
			if offset > b.offset {
				b.from += int(offset - b.offset)
				b.offset = offset
			}
			break
		}
		s.drop(s.replay.pop())
	}
	s.unsent = 0
	s.sent = min(offset, s.committed)
	s.finAcked = offset > s.committed
	s.finSent = s.finAcked
}

// owns says whether offset is one that the peer may have taken: no less than it has acknowledged, no more than was sent,
// on whatever carrier. The caller holds mu.
func (s *Stream) owns(offset uint64) bool { return offset >= s.acked && offset <= s.reached }
