package netstack

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// memoryRoom is how many bytes one direction holds before its writer must wait.
const memoryRoom = 64 << 10

// A memoryPipe is one direction.
type memoryPipe struct {
	mu      sync.Mutex
	bytes   []byte
	ended   bool // no more will be written
	dropped bool // no more will be read

	readable, writable chan struct{} // bells, as a socket has
}

func newPipe() *memoryPipe {
	return &memoryPipe{readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
}

func (p *memoryPipe) change(f func()) {
	p.mu.Lock()
	f()
	p.mu.Unlock()
	ring(p.readable)
	ring(p.writable)
}

func (p *memoryPipe) canRead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.bytes) > 0 || p.ended || p.dropped
}

func (p *memoryPipe) canWrite() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.bytes) < memoryRoom || p.ended || p.dropped
}

// A memoryConn is one end of a connection.
type memoryConn struct {
	network         *Memory
	in, out         *memoryPipe
	local, remote   net.Addr
	readBy, writeBy deadline

	reading, writing sync.Mutex
	mu               sync.Mutex
	shut             bool
}

func (c *memoryConn) isShut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shut
}

// wait blocks until ready, a ring of the bell at a time.
func (c *memoryConn) wait(ctx context.Context, ready func() bool, bell, due <-chan struct{}) error {
	for !ready() && !c.isShut() && !isClosed(due) {
		select {
		case <-bell:
		case <-due:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

func (c *memoryConn) WaitReadable(ctx context.Context, _ func()) (bool, error) {
	return true, c.wait(ctx, c.in.canRead, c.in.readable, c.readBy.passed())
}

func (c *memoryConn) WaitWritable(ctx context.Context) error {
	return c.wait(ctx, c.out.canWrite, c.out.writable, c.writeBy.passed())
}

func (c *memoryConn) Buffered() int {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return len(c.in.bytes)
}

func (c *memoryConn) ended(due <-chan struct{}) error {
	switch {
	case c.isShut():
		return net.ErrClosed
	case isClosed(due):
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (c *memoryConn) Read(b []byte) (int, error) {
	c.reading.Lock()
	defer c.reading.Unlock()
	for {
		if err := c.ended(c.readBy.passed()); err != nil {
			return 0, opError("read", "tcp", c.local, c.remote, err)
		}
		if len(b) == 0 {
			return 0, nil
		}
		var n int
		var end bool
		c.in.change(func() {
			n = copy(b, c.in.bytes)
			c.in.bytes = c.in.bytes[n:]
			end = c.in.ended || c.in.dropped
		})
		switch {
		case n > 0:
			return n, nil
		case end:
			return 0, io.EOF
		}
		c.WaitReadable(context.Background(), nil)
	}
}

func (c *memoryConn) Take(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.take(b)
}

func (c *memoryConn) take(b []byte) (n int, err error) {
	if err := c.ended(c.writeBy.passed()); err != nil {
		return 0, opError("write", "tcp", c.local, c.remote, err)
	}
	c.out.change(func() {
		if c.out.ended || c.out.dropped {
			err = opError("write", "tcp", c.local, c.remote, syscall.EPIPE)
			return
		}
		n = min(len(b), memoryRoom-len(c.out.bytes))
		c.out.bytes = append(c.out.bytes, b[:n]...)
	})
	return n, err
}

func (c *memoryConn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	var sent int
	for {
		n, err := c.take(b[sent:])
		sent += n
		if err != nil || sent == len(b) {
			return sent, err
		}
		c.WaitWritable(context.Background())
	}
}

func (c *memoryConn) CloseWrite() error {
	c.out.change(func() { c.out.ended = true })
	return nil
}

func (c *memoryConn) CloseRead() error {
	c.in.change(func() { c.in.dropped, c.in.bytes = true, nil })
	return nil
}

func (c *memoryConn) Close() error {
	c.mu.Lock()
	was := c.shut
	c.shut = true
	c.mu.Unlock()
	if was {
		return opError("close", "tcp", c.local, c.remote, net.ErrClosed)
	}
	c.readBy.stop()
	c.writeBy.stop()
	c.CloseWrite()
	c.CloseRead()
	c.network.mu.Lock()
	defer c.network.mu.Unlock()
	delete(c.network.conns, c)
	return nil
}

func (c *memoryConn) LocalAddr() net.Addr  { return c.local }
func (c *memoryConn) RemoteAddr() net.Addr { return c.remote }

func (c *memoryConn) SetDeadline(t time.Time) error {
	c.readBy.set(t)
	c.writeBy.set(t)
	return nil
}

func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.readBy.set(t)
	return nil
}

func (c *memoryConn) SetWriteDeadline(t time.Time) error {
	c.writeBy.set(t)
	return nil
}
