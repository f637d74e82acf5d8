package relay

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// Options of a relay. The zero value has no idle limit.
type Options struct {
	// Idle ends the relay when no byte has moved in either direction for this long; 0: never.
	Idle time.Duration
}

// ErrIdle is the cause of a relay that ended because nothing moved for Options.Idle.
var ErrIdle = errors.New("nothing moved for the idle limit")

// A Result says what a relay did and why it ended.
type Result struct {
	Up   int64 // bytes from the stream to the conn
	Down int64 // bytes from the conn to the stream
	Err  error // nil when both directions ended in order, else what ended the relay, or the cause of ctx

	// Delivered is what the stream's Deliver returned. A stream that ends itself may wait for its peer to hang up, which
	// may end ctx: then Err is only the consequence.
	Delivered error
}

// A ConnError is an error of the conn, not of the stream: Result.Err of a relay whose conn failed.
type ConnError struct{ Err error }

func (e *ConnError) Error() string { return e.Err.Error() }
func (e *ConnError) Unwrap() error { return e.Err }

// Pump relays between s and c until both directions have ended, one fails, or ctx ends. It leaves both open after an
// error: the caller knows what to tell the peer.
func Pump(ctx context.Context, s Stream, c Conn, o Options) Result {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	p := &pump{stream: s, conn: c, end: end}
	if o.Idle > 0 {
		p.idle = o.Idle
		p.moved.Store(time.Now().UnixNano())
		p.watch = time.AfterFunc(1<<62, p.checkIdle)
		p.watch.Reset(o.Idle)
		defer p.watch.Stop()
	}

	p.downward.ctx, p.downward.done = ctx, make(chan error, 1)
	defer context.AfterFunc(ctx, p.again)()
	go p.down()
	delivered := p.up(ctx)
	err := delivered
	if err != nil {
		end(err)
	}
	if downErr := <-p.downward.done; err == nil {
		err = downErr
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause // the first that failed, or what the caller ended ctx with
	}
	return Result{Up: p.upward.Load(), Down: p.downward.moved.Load(), Err: err, Delivered: delivered}
}

// pump is a relay under way.
type pump struct {
	stream   Stream
	conn     Conn
	upward   atomic.Int64
	downward downward
	end      context.CancelCauseFunc

	idle  time.Duration
	watch *time.Timer
	moved atomic.Int64 // Unix nanoseconds when a byte moved last
}

// up runs the stream's reader: stream → conn.
func (p *pump) up(ctx context.Context) error { return p.stream.Deliver(ctx, counted{p}) }

// counted is the conn as the stream's next hop.
type counted struct{ *pump }

func (t counted) Take(b []byte) (int, error) {
	n, err := t.conn.Take(b)
	t.upward.Add(int64(n))
	t.note(n)
	return n, ofConn(err)
}

func (t counted) WaitWritable(ctx context.Context) error { return t.conn.WaitWritable(ctx) }

func (t counted) CloseWrite() error { return ofConn(t.conn.CloseWrite()) }

// downward is the direction from the conn to the stream. While nothing comes from the conn it has no goroutine.
type downward struct {
	ctx   context.Context
	done  chan error
	moved atomic.Int64
	state atomic.Int32
}

const (
	working  int32 = iota
	resting        // down has returned, to be started again
	summoned       // and there is something to do for it, or will be when it has returned
)

// down is the pump's role: conn → stream. It waits with empty hands, and not for ever.
func (p *pump) down() {
	now, err := p.pass(p.downward.ctx)
	for !now && !p.downward.state.CompareAndSwap(working, resting) {
		p.downward.state.Store(working)
		now, err = p.pass(p.downward.ctx)
	}
	if !now {
		return
	}
	if err != nil {
		p.end(err)
	}
	p.downward.done <- err
}

// again starts down when there is something to read, or ctx has ended.
func (p *pump) again() {
	if p.downward.state.Swap(summoned) == resting {
		p.downward.state.Store(working)
		go p.down()
	}
}

// pass passes on what comes from the conn until that or ctx ends, or nothing has come for a while; then it is not over.
func (p *pump) pass(ctx context.Context) (over bool, err error) {
	for {
		now, err := p.conn.WaitReadable(ctx, p.again)
		if err != nil || !now {
			return now, ofConn(err)
		}
		b, err := p.stream.Reserve(ctx)
		if err != nil {
			return true, err
		}
		n, err := p.conn.Read(b)
		p.downward.moved.Add(int64(n))
		p.note(n)
		if commit := p.stream.Commit(n); commit != nil {
			return true, commit
		}
		switch {
		case err == io.EOF:
			return true, p.stream.CloseWrite()
		case err != nil:
			return true, ofConn(err)
		}
	}
}

func (p *pump) note(n int) {
	if n > 0 && p.idle > 0 {
		p.moved.Store(time.Now().UnixNano())
	}
}

// checkIdle ends the relay if nothing moved, else comes back when it could be so.
func (p *pump) checkIdle() {
	quiet := time.Since(time.Unix(0, p.moved.Load()))
	if quiet >= p.idle {
		p.end(ErrIdle)
		return
	}
	p.watch.Reset(p.idle - quiet)
}

func ofConn(err error) error {
	if err == nil {
		return nil
	}
	return &ConnError{err}
}
