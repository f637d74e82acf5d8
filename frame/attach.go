package frame

import (
	"errors"
	"time"
)

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
