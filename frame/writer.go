package frame

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"time"
)

// maxOut is the most that an idle flow's writer keeps for its next frames: an ACK, a FIN and all PONGs fit.
const maxOut = 160

// start runs the writer if something is due and it does not run already. The caller holds mu.
func (s *Stream) start() {
	if !s.writing && s.due() {
		s.writing = true
		go s.writer()
	}
}

// due says whether there is something to send, and a carrier to send it on. The caller holds mu.
func (s *Stream) due() bool {
	switch {
	case s.at == nil || s.at.last:
		return false
	case s.err != nil:
		return s.reset != nil
	case len(s.at.first) > 0 || len(s.extra) > 0 || len(s.pongs) > 0:
		return true
	}
	return !s.at.mute && (s.ackDue || s.unsent < s.replay.len() || s.finQueued && !s.finSent || s.over())
}

// over says that the flow has come to its end in order and the carrier's direction may be closed. The caller holds mu.
func (s *Stream) over() bool { return s.closing || s.finished() }

// write is the writer: it lives while something is due.
func (s *Stream) write() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.due() {
		at := s.at
		b, from := s.next()
		over := s.err != nil || s.over() && !at.mute && len(s.extra) == 0
		s.reset = nil
		at.writing = true
		s.mu.Unlock()
		var err error
		if over {
			at.SetWriteDeadline(time.Now().Add(lastWrites))
		}
		if len(b) > 0 {
			_, err = at.Write(b)
			if len(b) >= largeFrame {
				runtime.Gosched()
			}
		}
		if over && err == nil {
			err = at.CloseWrite()
			at.SetReadDeadline(time.Now().Add(farewell))
		}
		s.mu.Lock()
		at.writing, at.torn = false, err != nil
		s.leave(at)
		if from != nil {
			if from.pinned = false; from.dropped {
				from.release()
			}
		}
		if over {
			at.last = err == nil
		} else if s.deaf && !s.draining {
			s.refuseRest()
		}
		if err != nil {
			if at == s.at {
				s.reset = nil // there is no telling it any more
			}
			s.lose(at, err)
		}
	}
	s.writing = false
	// An idle flow holds no buffer.
	if s.spare != nil {
		s.spare.release()
		s.spare = nil
	}
	if cap(s.out) > maxOut {
		s.out = nil
	}
	s.wake()
}

// next takes what is to be written next: control frames, a slab with an ACK before it, FIN. The slab, if any, is
// pinned. The caller holds mu.
func (s *Stream) next() ([]byte, *slab) {
	b := append(s.out[:0], s.at.first...)
	s.at.first = nil
	defer func() { s.out = b[:0] }()
	if s.err != nil {
		b = Append(b, TypeReset, s.reset)
		return b, nil
	}
	for _, id := range s.pongs {
		b = AppendProbe(b, TypePong, id)
	}
	s.pongs = s.pongs[:0]
	b = append(b, s.extra...) // may end with REFUSED, which nothing follows
	s.extra = nil

	if s.at.mute {
		return b, nil
	}
	var data *slab
	if len(b) == 0 && s.unsent < s.replay.len() {
		data = s.replay.at(s.unsent)
	}
	if data == nil {
		if s.ackDue {
			b = s.ack().Append(b)
		}
		if s.finQueued && !s.finSent && s.unsent == s.replay.len() {
			s.finSent, s.reached = true, s.committed+1
			b = appendFin(b, s.committed)
		}
		return b, nil
	}

	if s.acked >= s.sent {
		s.ackAt = time.Now()
	}
	s.watchAcks()
	s.unsent++
	s.sent = data.offset + uint64(data.to-data.from)
	s.reached = max(s.reached, s.sent)
	data.pinned = true
	start := data.from - HeaderSize
	Header{TypeData, data.to - data.from}.Append(data.mem[start:start])
	if s.ackDue || s.taken != s.told {
		start -= HeaderSize + 16
		s.ack().Append(data.mem[start:start])
	}
	return data.mem[start:data.to], data
}

// ack is the ACK that is due. The caller holds mu.
func (s *Stream) ack() Ack {
	s.ackDue = false
	s.told = s.taken
	s.limit = max(s.limit, s.taken+uint64(s.room))
	return Ack{Acked: s.taken, Limit: s.limit}
}

// lose notes that a carrier is gone: the flow is detached, or ends. The caller holds mu.
func (s *Stream) lose(at *attachment, err error) {
	switch {
	case at != s.at:
		return // the flow is on another one already, or has been detached
	case s.err == nil && !s.finished() && s.resumable():
		s.detach(lost(err))
		return
	case s.finished():
		s.end(net.ErrClosed)
	default:
		s.end(lost(err))
	}
	at.last = false
	at.cut()
}

// lost is the error of a flow whose carrier is gone.
func lost(cause error) error {
	var known *StreamError
	if errors.As(cause, &known) && known.Code == Lost {
		return known
	}
	e := Refuse(Lost, "the connection to the appliance was lost", "connect again")
	var timeout interface{ Timeout() bool }
	var call *os.SyscallError
	switch {
	case cause == nil, errors.Is(cause, io.EOF), errors.Is(cause, io.ErrUnexpectedEOF):
	case errors.As(cause, &timeout) && timeout.Timeout():
		e.Sentence += ": it has gone silent"
	case errors.As(cause, &call): // without the addresses around it
		e.Sentence += ": " + call.Err.Error()
	default:
		e.Sentence += ": " + Clip(cause.Error(), 200)
	}
	return e
}
