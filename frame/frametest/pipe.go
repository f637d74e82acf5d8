// Package frametest has carriers in memory and the conformance suite that every carrier passes.
package frametest

import (
	"io"
	"net"
	"os"
	"sync"
	"time"

	"sallyport/frame"
)

// Pipe returns the two ends of a carrier in memory. Each direction holds buffer bytes; 0 means 64 KiB.
func Pipe(buffer int) (a, b *PipeCarrier) {
	if buffer == 0 {
		buffer = 64 << 10
	}
	x, y := newHalf(buffer), newHalf(buffer)
	return &PipeCarrier{in: x, out: y}, &PipeCarrier{in: y, out: x}
}

// A PipeCarrier is one end of a Pipe.
type PipeCarrier struct{ in, out *half }

var _ frame.Carrier = (*PipeCarrier)(nil)

func (p *PipeCarrier) Read(b []byte) (int, error)         { return p.in.read(b) }
func (p *PipeCarrier) Write(b []byte) (int, error)        { return p.out.write(b) }
func (p *PipeCarrier) SetReadDeadline(t time.Time) error  { return p.in.deadline(&p.in.readBy, t) }
func (p *PipeCarrier) SetWriteDeadline(t time.Time) error { return p.out.deadline(&p.out.writeBy, t) }
func (p *PipeCarrier) CloseWrite() error                  { return p.out.end(io.EOF) }

// Break ends both directions for both ends, as a network does that fails.
func (p *PipeCarrier) Break() {
	p.out.end(io.ErrUnexpectedEOF)
	p.in.end(io.ErrUnexpectedEOF)
}

// Close ends both directions; what was not read is lost, as with a connection that is reset.
func (p *PipeCarrier) Close() error {
	p.out.end(io.ErrUnexpectedEOF)
	return p.in.end(net.ErrClosed)
}

// half is one direction.
type half struct {
	mu              sync.Mutex
	cond            *sync.Cond
	b               []byte // what was written and not read, somewhere within mem
	mem             []byte
	err             error // what a reader gets after b
	readBy, writeBy time.Time
}

func newHalf(max int) *half {
	h := &half{mem: make([]byte, 0, max)}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case expired(h.readBy):
			return 0, os.ErrDeadlineExceeded
		case h.err != nil && h.err != io.EOF:
			return 0, h.err
		case len(h.b) > 0:
			n := copy(p, h.b)
			h.b = h.b[n:]
			h.cond.Broadcast()
			return n, nil
		case h.err != nil:
			return 0, h.err
		}
		h.cond.Wait()
	}
}

func (h *half) write(p []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(p) > 0 {
		switch {
		case expired(h.writeBy):
			return n, os.ErrDeadlineExceeded
		case h.err != nil:
			return n, io.ErrClosedPipe
		}
		if k := min(len(p), cap(h.mem)-len(h.b)); k > 0 {
			if cap(h.b)-len(h.b) < k {
				h.b = h.mem[:copy(h.mem[:cap(h.mem)], h.b)]
			}
			h.b = append(h.b, p[:k]...)
			p, n = p[k:], n+k
			h.cond.Broadcast()
			continue
		}
		h.cond.Wait()
	}
	return n, nil
}

func (h *half) end(err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil || h.err == io.EOF {
		h.err = err
	}
	h.cond.Broadcast()
	return nil
}

func (h *half) deadline(at *time.Time, t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	*at = t
	h.cond.Broadcast()
	if d := time.Until(t); !t.IsZero() && d > 0 {
		time.AfterFunc(d, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.cond.Broadcast()
		})
	}
	return nil
}

func expired(t time.Time) bool { return !t.IsZero() && time.Until(t) <= 0 }
