package relay

import (
	"context"
	"errors"
	"io"
	"runtime"
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
	r := New(ctx, s, c, o)
	r.Run()
	return r.Result()
}

// A Relay is Pump in three steps, so that the goroutine that waits in Run has only that on its stack.
type Relay struct {
	stream   Stream
	conn     Conn
	ctx      context.Context
	end      context.CancelCauseFunc
	upward   atomic.Int64
	downward downward

	delivered error // what Deliver returned

	idle  time.Duration
	watch *time.Timer
	moved atomic.Int64 // Unix nanoseconds when a byte moved last, or when the relay began
}

// New begins a relay. It has to be run, and asked for its result.
func New(ctx context.Context, s Stream, c Conn, o Options) *Relay {
	ctx, end := context.WithCancelCause(ctx)
	r := &Relay{stream: s, conn: c, ctx: ctx, end: end, idle: o.Idle}
	r.downward.done, r.downward.later = make(chan error, 1), r.again
	r.moved.Store(time.Now().UnixNano())
	if o.Idle > 0 {
		r.watch = time.AfterFunc(1<<62, r.checkIdle)
		r.watch.Reset(o.Idle)
	}
	go r.down()
	return r
}

// Run does what Pump says, but for the Result.
func (r *Relay) Run() { r.delivered = r.stream.Deliver(r.ctx, counted{r}) }

// Result waits for the end of what Run has begun to end, and says how it went.
func (r *Relay) Result() Result {
	defer r.end(nil)
	err := r.delivered
	if err != nil {
		r.end(err)
	}
	if downErr := r.waitDown(); err == nil {
		err = downErr
	}
	if r.watch != nil {
		r.watch.Stop()
	}
	if cause := context.Cause(r.ctx); err != nil && cause != nil {
		err = cause // the first that failed, or what the caller ended ctx with
	}
	return Result{Up: r.upward.Load(), Down: r.downward.moved.Load(), Err: err, Delivered: r.delivered}
}

// counted is the conn as the stream's next hop.
type counted struct{ *Relay }

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
	done  chan error
	later func() // again, bound once
	moved atomic.Int64
	state atomic.Int32
}

const (
	working  int32 = iota
	resting        // down has returned, to be started again
	summoned       // and there is something to do for it, or will be when it has returned
)

// down is the pump's role: conn → stream. It waits with empty hands, and not for ever.
func (r *Relay) down() {
	for {
		over, err := r.pass()
		switch {
		case over:
			if err != nil {
				r.end(err)
			}
			r.downward.done <- err
			return
		case r.downward.state.CompareAndSwap(working, resting):
			return
		}
		r.downward.state.Store(working) // it was summoned meanwhile
	}
}

// waitDown returns down's error. Where down rests, the end of ctx is what it would come back for.
func (r *Relay) waitDown() error {
	defer context.AfterFunc(r.ctx, r.again)()
	return <-r.downward.done
}

// again starts down when there is something to read, or ctx has ended.
func (r *Relay) again() {
	if r.downward.state.Swap(summoned) == resting {
		r.downward.state.Store(working)
		go r.down()
	}
}

// largeRead is what a conn gives at once that moves much: then others have their turn, which Go would take from a
// goroutine that never waits only after 10 ms.
const largeRead = 16 << 10

// pass passes on what comes from the conn until that or ctx ends, or nothing has come for a while; then it is not over.
func (r *Relay) pass() (over bool, err error) {
	for {
		now, err := r.conn.WaitReadable(r.ctx, r.downward.later)
		if err != nil || !now {
			return now || err != nil, ofConn(err)
		}
		b, err := r.stream.Reserve(r.ctx)
		if err != nil {
			return true, err
		}
		n, err := r.conn.Read(b)
		r.downward.moved.Add(int64(n))
		r.note(n)
		if commit := r.stream.Commit(n); commit != nil {
			return true, commit
		}
		if n >= largeRead {
			runtime.Gosched()
		}
		switch {
		case err == io.EOF:
			return true, r.stream.CloseWrite()
		case err != nil:
			return true, ofConn(err)
		}
	}
}

func (r *Relay) note(n int) {
	if n > 0 {
		r.moved.Store(time.Now().UnixNano())
	}
}

// Quiet is for how long no byte has moved in either direction.
func (r *Relay) Quiet() time.Duration { return max(0, time.Since(time.Unix(0, r.moved.Load()))) }

// checkIdle ends the relay if nothing moved, else comes back when it could be so.
func (r *Relay) checkIdle() {
	quiet := r.Quiet()
	if quiet >= r.idle {
		r.end(ErrIdle)
		return
	}
	r.watch.Reset(r.idle - quiet)
}

func ofConn(err error) error {
	if err == nil {
		return nil
	}
	return &ConnError{err}
}
