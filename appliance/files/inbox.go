package files

import (
	"context"
	"fmt"
	"io"
	"sync"

	"sallyport/frame"
)

// An inbox holds the bytes of an upload until they are passed on: those between the limit that the person knows and what has
// been taken, a window's worth.
type inbox struct {
	came chan struct{} // has a token when there is something new

	mu      sync.Mutex
	size    int64  // of the whole file
	offered int64  // where the person may begin, beside 0; -1: not said yet
	begun   bool   // the person has
	next    int64  // offset of the byte that comes next
	limit   int64  // that the person may send to
	ring    []byte // window, or less for a smaller file
	start   int
	held    int
	unkept  bool // what was brought is not wanted any more
}

func newInbox(size int64) *inbox {
	return &inbox{came: make(chan struct{}, 1), size: size, offered: -1}
}

// offer lets the person begin.
func (b *inbox) offer(offset int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.offered = offset
	b.ring = make([]byte, min(window, b.size))
}

// put takes what the person sends. An error ends the flow.
func (b *inbox) put(offset int64, p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.begun {
		if b.offered < 0 {
			return frame.Refuse(frame.Credit, "the page sent data of an upload before it was asked to", "reload the page")
		}
		if offset != 0 && offset != b.offered {
			return errMessage("an upload begins at %d, and not at 0 or %d", offset, b.offered)
		}
		b.begun, b.next, b.limit = true, offset, offset+window
	}
	end := b.next + int64(len(p))
	switch {
	case offset != b.next:
		return errMessage("data at %d, and not at %d", offset, b.next)
	case end > b.size:
		return errMessage("data up to %d of a file with %d bytes", end, b.size)
	case end > b.limit:
		return frame.Refuse(frame.Credit, fmt.Sprintf("the page sent data up to %d, and may up to %d", end, b.limit), "reload the page")
	}
	for len(p) > 0 {
		at := (b.start + b.held) % len(b.ring)
		n := copy(b.ring[at:], p[:min(len(p), len(b.ring)-b.held)])
		b.held += n
		p = p[n:]
	}
	b.next = end
	signal(b.came)
	return nil
}

// begin waits for the person, and says where they do.
func (b *inbox) begin(ctx context.Context) (int64, error) {
	for {
		b.mu.Lock()
		begun, at := b.begun, b.next-int64(b.held)
		b.mu.Unlock()
		if begun {
			return at, nil
		}
		if err := b.wait(ctx); err != nil {
			return 0, err
		}
	}
}

// take gives what is there, or waits for it. After the last byte it is io.EOF. The person may send up to limit then.
func (b *inbox) take(ctx context.Context, p []byte) (n int, limit int64, err error) {
	for {
		if ctx.Err() != nil {
			return 0, 0, context.Cause(ctx)
		}
		b.mu.Lock()
		if b.held > 0 {
			n = copy(p, b.ring[b.start:min(b.start+b.held, len(b.ring))])
			b.start = (b.start + n) % len(b.ring)
			b.held -= n
			b.limit += int64(n)
			limit = b.limit
			b.mu.Unlock()
			return n, limit, nil
		}
		over := b.next == b.size
		b.mu.Unlock()
		if over {
			return 0, 0, io.EOF
		}
		if err := b.wait(ctx); err != nil {
			return 0, 0, err
		}
	}
}

func (b *inbox) wait(ctx context.Context) error {
	select {
	case <-b.came:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// discard says whether what was brought is wanted no more.
func (b *inbox) discard(yes bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unkept = yes
}

func (b *inbox) discarded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unkept
}
