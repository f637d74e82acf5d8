package frame

import (
	"context"
	"errors"
	"net"
	"time"
)

// Open asks the appliance for a flow on c and waits for its answer. A refusal is a *StreamError with Remote set.
// Whatever the error, c is closed.
func Open(ctx context.Context, c Carrier, req OpenRequest, o Options) (*Stream, *Opened, error) {
	if err := req.check(); err != nil {
		c.Close()
		return nil, nil, Refuse("E_NAME", err.Error(), "")
	}
	s := newStream(c, o)
	s.owe(Append(nil, TypeOpen, &req))
	h, p, err := s.await(ctx)
	var opened Opened
	switch {
	case err != nil:
	case h.Type == TypeOpened:
		err = Parse(h.Type, p, &opened)
	case h.Type == TypeRefused:
		var r Reason
		if err = Parse(h.Type, p, &r); err == nil {
			err = &StreamError{Reason: r.clipped(), Remote: true}
		}
	default:
		err = unexpectedFrame(h.Type)
	}
	if err != nil {
		s.abandon()
		return nil, nil, err
	}
	return s, &opened, nil
}

// await has the reader's role until a frame comes that is not the stream's own business.
func (s *Stream) await(ctx context.Context) (h Header, p []byte, err error) {
	stop := context.AfterFunc(ctx, func() {
		s.carrier.SetReadDeadline(time.Unix(1, 0))
		s.carrier.SetWriteDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			err = context.Cause(ctx) // the carrier has had its deadlines, or will
		}
	}()
	for {
		h, p, err := readFrame(s.carrier, anyType, s.opts.Skipped)
		if ctx.Err() != nil {
			return h, nil, context.Cause(ctx)
		}
		var session *SessionError
		switch {
		case errors.As(err, &session):
			return h, nil, err
		case err != nil:
			return h, nil, lost(err)
		}
		switch h.Type {
		case TypePing, TypePong, TypeNotice, TypeDrain, TypeAck:
			if err := s.control(ctx, h, p, nil); err != nil {
				return h, nil, err
			}
		case TypeReset:
			return h, nil, s.control(ctx, h, p, nil)
		default:
			return h, p, nil
		}
	}
}

// An Incoming is a client's request for a flow, to be accepted or refused.
type Incoming struct {
	// Open is what the client asks for.
	Open OpenRequest

	s *Stream
}

// Accept reads from c what the client wants. A RESUME is refused: this version keeps no flow without its carrier.
// After an error c is closed.
func Accept(ctx context.Context, c Carrier, o Options) (*Incoming, error) {
	in := &Incoming{s: newStream(c, o)}
	h, p, err := in.s.await(ctx)
	switch {
	case err != nil:
	case h.Type == TypeOpen:
		err = Parse(h.Type, p, &in.Open)
	case h.Type == TypeResume:
		var r Resume
		if err = Parse(h.Type, p, &r); err == nil {
			err = Refuse(ResumeUnknown, "there is no such flow", "connect again")
		}
	default:
		err = unexpectedFrame(h.Type)
	}
	if err == nil {
		return in, nil
	}
	if _, ours := ReasonOf(err); ours && ctx.Err() == nil {
		in.Refuse(err)
	} else {
		in.s.abandon()
	}
	return nil, err
}

// abandon closes the carrier and waits for the writer.
func (s *Stream) abandon() {
	s.carrier.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(net.ErrClosed)
	s.rest()
}

// Accept grants the flow.
func (in *Incoming) Accept(o Opened) *Stream {
	for _, text := range []*string{&o.Target, &o.Rule, &o.Notice} {
		*text = Clip(*text, maxLine)
	}
	in.s.owe(Append(nil, TypeOpened, &o))
	return in.s
}

// Refuse tells the client why there is no flow, waits until it has hung up or a moment has passed, and closes the
// carrier. An error without a Reason is told as E_INTERNAL, without its text.
func (in *Incoming) Refuse(err error) {
	reason, ok := ReasonOf(err)
	if !ok {
		reason.Sentence = "the appliance could not open this flow"
	}
	s := in.s
	s.owe(Append(nil, TypeRefused, ptr(reason.clipped())))
	s.mu.Lock()
	s.reading = true
	s.closing = true
	s.start()
	s.mu.Unlock()
	s.hangUp()
}
