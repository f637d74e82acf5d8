package netstack

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A Conn is a TCP connection of a Stack. It is a net.Conn that can be closed by halves, and that can be waited for
// without holding a buffer: WaitReadable, then Read; Take, then WaitWritable.
//
// One goroutine reads and one writes; more take turns.
//
// Copies: one up (the stack's buffers into the slice given to Read), one down (Take's slice into the stack's buffers).
type Conn struct {
	socket
	stack *Stack
	why   atomic.Pointer[error]         // the stack has ended it for this
	reset atomic.Pointer[syscall.Errno] // how the connection broke; the stack says it only once

	tired *time.Timer // of WaitReadable

	reading sync.Mutex
	dst     tcpip.SliceWriter // what Read fills; here and not on the stack, so that Read does not allocate

	writing sync.Mutex
	src     bytes.Reader // what Take empties, likewise
}

func (s *Stack) newConn(ep tcpip.Endpoint, wq *waiter.Queue) *Conn {
	c := &Conn{stack: s}
	c.init("tcp", ep, wq)
	s.conns.add(c)
	return c
}

// fail ends a connection that cannot go on, for a reason that the peer does not know; whoever uses it is told.
func (c *Conn) fail(why error) {
	c.why.CompareAndSwap(nil, &why)
	c.ep.Abort()
	c.wake.NotifyEvent(readEvents | writeEvents)
}

// named notes the connection's addresses, which the stack forgets when the connection ends.
func (c *Conn) named() {
	if a, err := c.ep.GetLocalAddress(); err == nil {
		c.local = tcpAddr(a)
	}
	if a, err := c.ep.GetRemoteAddress(); err == nil {
		c.remote = tcpAddr(a)
	}
}

// Buffered is how many bytes have arrived and wait to be read.
func (c *Conn) Buffered() int {
	n, err := c.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	if err != nil {
		return 0
	}
	return n
}

// patience is how long WaitReadable blocks where it need not.
const patience = time.Second

// WaitReadable blocks until Read would not: there are bytes, the end, an error, or the read deadline has passed. It
// returns the cause of ctx when that ends first. If later is not nil it blocks for a second at most and then returns
// false: later is called once when Read would not block, from within the stack, so that it must not block. The read
// deadline is of no account for that.
func (c *Conn) WaitReadable(ctx context.Context, later func()) (now bool, err error) {
	var tired <-chan time.Time
	if later != nil {
		if c.tired == nil {
			c.tired = time.NewTimer(patience)
		}
		c.tired.Reset(patience)
		tired = c.tired.C
	}
	now, err = c.await(ctx, waiter.ReadableEvents, c.wake.readable, c.readBy.passed(), tired)
	if now || err != nil {
		return true, err
	}
	c.tired = nil
	call := later // or every later would be on the heap
	c.wake.later.Store(&call)
	if c.ep.Readiness(waiter.ReadableEvents)&waiter.ReadableEvents != 0 || isClosed(c.closed) {
		c.wake.call() // for nobody else may notice
	}
	return false, nil
}

// await blocks until the endpoint is ready for one of events, which wake tells, or the connection or due has ended; not
// ready if tired comes first.
func (c *Conn) await(ctx context.Context, events waiter.EventMask, wake, due <-chan struct{}, tired <-chan time.Time) (ready bool, err error) {
	for c.ep.Readiness(events)&events == 0 {
		select {
		case <-wake:
		case <-c.closed:
			return true, nil
		case <-due:
			return true, nil
		case <-tired:
			return false, nil
		case <-ctx.Done():
			return true, context.Cause(ctx)
		}
	}
	return true, nil
}

// Read fills p with as much as has arrived, and blocks only while that is nothing.
func (c *Conn) Read(p []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for {
		due := c.readBy.passed()
		if err := c.ended(due); err != nil {
			return 0, c.opError("read", err)
		}
		if len(p) == 0 {
			return 0, nil
		}
		c.dst = p
		got, err := c.ep.Read(&c.dst, tcpip.ReadOptions{})
		c.dst = nil
		if err == nil {
			c.ep.ModerateRecvBuf(got.Count) // or the window never grows
			return got.Count, nil
		}
		if !wouldBlock(err) {
			return 0, c.readError(err)
		}
		select {
		case <-c.wake.readable:
		case <-c.closed:
		case <-due:
		}
	}
}

// Take writes what the send buffer has room for and never blocks; 0 and nil mean that it is full.
func (c *Conn) Take(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.take(p)
}

func (c *Conn) take(p []byte) (int, error) {
	if err := c.ended(c.writeBy.passed()); err != nil {
		return 0, c.opError("write", err)
	}
	// The stack reads exactly Len bytes of its payloader, and loops for ever on one that comes short: these are bytes
	// that have arrived.
	c.src.Reset(p)
	n, err := c.ep.Write(&c.src, tcpip.WriteOptions{})
	c.src.Reset(nil)
	if err == nil {
		return int(n), nil
	}
	if wouldBlock(err) {
		return 0, nil
	}
	return int(n), c.failed("write", err)
}

// WaitWritable blocks until Take would accept something or fail. It returns the cause of ctx when that ends first.
func (c *Conn) WaitWritable(ctx context.Context) error {
	_, err := c.await(ctx, waiter.WritableEvents, c.wake.writable, c.writeBy.passed(), nil)
	return err
}

// Write blocks until the stack has taken all of p.
func (c *Conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	var sent int
	for {
		n, err := c.take(p[sent:])
		sent += n
		if err != nil || sent == len(p) {
			return sent, err
		}
		if n > 0 {
			continue
		}
		select {
		case <-c.wake.writable:
		case <-c.closed:
		case <-c.writeBy.passed():
		}
	}
}

// readError turns a broken connection's end into an error: the stack tells the cause once, to whoever asks first, and
// the clean end of the stream ever after.
func (c *Conn) readError(err tcpip.Error) error {
	if _, ok := err.(*tcpip.ErrClosedForReceive); ok && !c.broken() && c.why.Load() == nil {
		return io.EOF
	}
	return c.failed("read", err)
}

func (c *Conn) broken() bool { return tcp.EndpointState(c.ep.State()) == tcp.StateError }

// failed dresses err, unless the connection was ended by its own stack: then the reason stands alone, for it is not about
// this connection.
func (c *Conn) failed(op string, err tcpip.Error) error {
	if why := c.why.Load(); why != nil {
		return *why
	}
	return c.opError(op, c.cause(err))
}

// cause is why the connection broke, however often one asks.
func (c *Conn) cause(err tcpip.Error) error {
	was := osError(err)
	if !c.broken() {
		return was
	}
	if no, ok := was.(syscall.Errno); ok && no != syscall.EPIPE && no != syscall.ENOTCONN {
		c.reset.CompareAndSwap(nil, &no)
	}
	if no := c.reset.Load(); no != nil {
		return *no
	}
	return syscall.ECONNRESET
}

// CloseWrite sends what was written and then FIN; reading goes on.
func (c *Conn) CloseWrite() error { return c.shutdown(tcpip.ShutdownWrite) }

// CloseRead ends reading; what arrives from now on is dropped.
func (c *Conn) CloseRead() error { return c.shutdown(tcpip.ShutdownRead) }

func (c *Conn) shutdown(how tcpip.ShutdownFlags) error {
	if isClosed(c.closed) {
		return c.opError("close", net.ErrClosed)
	}
	if err := c.ep.Shutdown(how); err != nil {
		return c.failed("close", err)
	}
	return nil
}

// Close ends both directions; whoever is blocked returns. What was written is still sent, and bytes that were not read
// turn the FIN into a RST, as with a kernel's TCP.
func (c *Conn) Close() error {
	c.stack.conns.remove(c)
	return c.end(c.ep.Close)
}

// Abort ends the connection with a RST: what was written and not acknowledged is not sent any more.
func (c *Conn) Abort() error {
	c.stack.conns.remove(c)
	return c.end(c.ep.Abort)
}
