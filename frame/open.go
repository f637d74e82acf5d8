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
	answered := s.early(ctx)
	h, p, err := s.await(ctx)
	answered()
	s.rtt = min(s.age(), longestGuess) // at most: the appliance has dialled meanwhile
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

// early runs Options.Early until the appliance has answered.
func (s *Stream) early(ctx context.Context) (answered func()) {
	if s.opts.Early == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		s.opts.Early(ctx, s)
	}()
	return func() {
		cancel()
		<-over
		s.opts.Early = nil
	}
}

// await has the reader's role until a frame comes that is not the stream's own business.
func (s *Stream) await(ctx context.Context) (h Header, p []byte, err error) {
	at := s.at // the only one yet
	stop := context.AfterFunc(ctx, at.cut)
	defer func() {
		if !stop() {
			err = context.Cause(ctx) // the carrier has had its deadlines, or will
		}
	}()
	for {
		h, p, err := readFrame(at, anyType, s.opts.Skipped)
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
			if err := s.control(ctx, at, h, p); err != nil {
				return h, nil, err
			}
		case TypeReset:
			return h, nil, s.control(ctx, at, h, p)
		default:
			return h, p, nil
		}
	}
}

// An Incoming is a client's request for a flow, to be accepted or refused, or for one that it has to be resumed.
type Incoming struct {
	Open   OpenRequest
	Resume *Resume // if it is not nil there is no Open

	s  *Stream // of the carrier alone, until Attach gives that to another
	at *attachment
}

// Accept reads from c what the client wants. After an error c is closed.
func Accept(ctx context.Context, c Carrier, o Options) (*Incoming, error) {
	in := &Incoming{s: newStream(c, o)}
	in.at = in.s.at
	h, p, err := in.s.await(ctx)
	switch {
	case err != nil:
	case h.Type == TypeOpen:
		err = Parse(h.Type, p, &in.Open)
	case h.Type == TypeResume:
		in.Resume = new(Resume)
		if err = Parse(h.Type, p, in.Resume); err == nil {
			in.s.settle()
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
	s.at.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(net.ErrClosed)
	s.rest()
}

// Notify sends the person a line while they wait for an answer.
func (in *Incoming) Notify(n Notice) { in.s.Notify(n) }

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
	in.last(TypeRefused, ptr(reason.clipped()))
}

// Supersede tells the client that another attempt to resume has the flow.
func (in *Incoming) Supersede() { in.lastFrame(Header{TypeSuperseded, 0}.Append(nil)) }

// last answers with a frame that nothing follows, waits until the client has hung up or a moment has passed, and closes
// the carrier.
func (in *Incoming) last(t Type, message any) { in.lastFrame(Append(nil, t, message)) }

func (in *Incoming) lastFrame(frame []byte) {
	s := in.s
	s.owe(frame)
	s.mu.Lock()
	s.reading = true
	s.closing = true
	s.start()
	s.mu.Unlock()
	s.hangUp()
}

// settle lets the answer to a PING leave.
func (s *Stream) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at.SetWriteDeadline(time.Now().Add(lastWrites))
	s.rest()
	s.at.SetWriteDeadline(time.Time{})
}

// handOver gives the carrier to the flow that it resumes.
func (in *Incoming) handOver(to *Stream) *attachment {
	in.s.mu.Lock()
	defer in.s.mu.Unlock()
	in.s.at = nil
	in.s.end(net.ErrClosed)
	in.s = to
	return in.at
}

// Watch has gone called, in a goroutine of its own, when the carrier that the request came on is closed. If ctx ends
// first the flow loses the carrier, for the cause of ctx.
func (in *Incoming) Watch(ctx context.Context, gone func()) {
	s, at := in.s, in.at
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err == nil { // else its end is on its way to the peer, or the peer is about to hang up
			s.lose(at, context.Cause(ctx))
		}
	})
	at.onceClosed(func() {
		stop()
		gone()
	})
}
