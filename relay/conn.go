package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Wrap makes a relay's Conn of what is at hand: a conn that is one already (a userspace stack's), a kernel socket,
// or any pair of reader and writer.
func Wrap(c net.Conn) Conn {
	if rc, ok := c.(Conn); ok {
		return rc
	}
	if sc, ok := c.(syscall.Conn); ok && canWait {
		if raw, err := sc.SyscallConn(); err == nil {
			return &socket{Conn: c, raw: raw}
		}
	}
	closeWrite := func() error { return nil }
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		closeWrite = h.CloseWrite
	}
	return Join(c, c, closeWrite, c.Close)
}

// Join makes a Conn of a reader and a writer that can only block: each has a goroutine and a buffer of its own.
// closeWrite says that nothing more is written, closeAll makes blocked calls return as far as they can.
func Join(r io.Reader, w io.Writer, closeWrite, closeAll func() error) Conn {
	return &joined{r: r, w: w, closeWrite: closeWrite, closeAll: closeAll, read: make(chan struct{}, 1), wrote: make(chan struct{}, 1)}
}

// socket is a kernel socket, waited for by the runtime's poller.
type socket struct {
	net.Conn
	raw syscall.RawConn
}

func (s *socket) Buffered() int { return 0 }

// Read hides that nothing may be there: after WaitReadable something is.
func (s *socket) Read(p []byte) (int, error) { return s.Conn.Read(p) }

func (s *socket) WaitReadable(ctx context.Context, _ func()) (bool, error) {
	return true, s.poll(ctx, s.SetReadDeadline, s.raw.Read, waitReadable)
}

func (s *socket) WaitWritable(ctx context.Context) error {
	return s.poll(ctx, s.SetWriteDeadline, s.raw.Write, waitWritable)
}

// poll waits until ready says so; the end of ctx is brought about by a deadline in the past for as long.
func (s *socket) poll(ctx context.Context, deadline func(time.Time) error, wait func(func(uintptr) bool) error, ready func(uintptr) bool) error {
	if ctx.Done() != nil {
		var ending sync.Mutex
		ending.Lock()
		stop := context.AfterFunc(ctx, func() {
			deadline(time.Unix(1, 0))
			ending.Unlock()
		})
		defer func() {
			if !stop() {
				ending.Lock()
				deadline(time.Time{})
			}
		}()
	}
	err := wait(ready)
	if err != nil && ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return context.Cause(ctx)
	}
	return err
}

func (s *socket) Take(p []byte) (n int, err error) {
	var sysErr error
	err = s.raw.Write(func(fd uintptr) bool {
		n, sysErr = writeNow(fd, p)
		return true
	})
	if err == nil {
		err = sysErr
	}
	return n, err
}

func (s *socket) CloseWrite() error {
	if h, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nil
}

// joinBuffer is what a joined conn reads or writes at once: a DATA frame's worth would be held for each direction of
// every idle pipe, a quarter of it costs nothing measurable.
const joinBuffer = 16 << 10

// joined is a reader and a writer that can only block.
type joined struct {
	r                    io.Reader
	w                    io.Writer
	closeWrite, closeAll func() error
	read, wrote          chan struct{} // have a token when the reader, the writer has stopped working

	mu      sync.Mutex
	reading bool // a read is under way
	in      []byte
	inErr   error
	writing bool // a write is under way
	outErr  error
	inBuf   [joinBuffer]byte
	outBuf  [joinBuffer]byte
}

func (j *joined) WaitReadable(ctx context.Context, _ func()) (bool, error) {
	j.mu.Lock()
	for len(j.in) == 0 && j.inErr == nil {
		if !j.reading {
			j.reading = true
			go j.fill()
		}
		j.mu.Unlock()
		select {
		case <-j.read:
		case <-ctx.Done():
			return true, context.Cause(ctx)
		}
		j.mu.Lock()
	}
	j.mu.Unlock()
	return true, nil
}

func (j *joined) fill() {
	n, err := j.r.Read(j.inBuf[:])
	j.mu.Lock()
	j.in, j.inErr, j.reading = j.inBuf[:n], err, false
	j.mu.Unlock()
	signal(j.read)
}

func (j *joined) Buffered() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.in)
}

func (j *joined) Read(p []byte) (int, error) {
	if _, err := j.WaitReadable(context.Background(), nil); err != nil {
		return 0, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	n := copy(p, j.in)
	if j.in = j.in[n:]; n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, j.inErr
}

func (j *joined) Take(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.outErr != nil:
		return 0, j.outErr
	case j.writing || len(p) == 0:
		return 0, nil
	}
	n := copy(j.outBuf[:], p)
	j.writing = true
	go j.flush(n)
	return n, nil
}

func (j *joined) flush(n int) {
	_, err := j.w.Write(j.outBuf[:n])
	j.mu.Lock()
	j.outErr = err
	j.writing = false
	j.mu.Unlock()
	signal(j.wrote)
}

func (j *joined) WaitWritable(ctx context.Context) error {
	for {
		j.mu.Lock()
		writing := j.writing
		j.mu.Unlock()
		if !writing {
			return nil
		}
		select {
		case <-j.wrote:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// CloseWrite ends the writer, which has written everything: WaitWritable came before.
func (j *joined) CloseWrite() error { return j.closeWrite() }

func (j *joined) Close() error { return j.closeAll() }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
