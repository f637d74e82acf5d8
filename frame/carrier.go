package frame

import (
	"io"
	"sync/atomic"
	"time"
)

// A Carrier is the place of one flow on a transport connection: a QUIC stream, or an HTTPS connection or a WebSocket
// of its own.
type Carrier interface {
	io.ReadWriter

	// A deadline in the past makes a blocked call return.
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error

	// CloseWrite ends our direction in order: the peer reads everything, then io.EOF.
	CloseWrite() error

	// Close ends both directions at once.
	Close() error
}

// A Governor bounds what all flows together may hold, in bytes: the room that they have granted to their peers beyond
// the first limit, and what they keep for peers that do not acknowledge beyond a first 128 KiB each. When little is
// left, flows with much room give it back as they use it. Its zero value grants nothing; nil grants everything.
type Governor struct {
	free   atomic.Int64
	size   int64
	parent *Governor // grants the same bytes too; may be nil
}

// NewGovernor returns a Governor that has room bytes to grant.
func NewGovernor(room int64) *Governor {
	g := &Governor{size: room}
	g.free.Store(room)
	return g
}

// Share returns a Governor that grants at most room bytes of g's. That of a nil Governor is bounded by room alone.
func (g *Governor) Share(room int64) *Governor {
	share := NewGovernor(room)
	share.parent = g
	return share
}

// take reserves n bytes, or none.
func (g *Governor) take(n int) bool {
	if g == nil {
		return true
	}
	if g.free.Add(-int64(n)) < 0 || !g.parent.take(n) {
		g.free.Add(int64(n))
		return false
	}
	return true
}

func (g *Governor) give(n int) {
	if g != nil {
		g.free.Add(int64(n))
		g.parent.give(n)
	}
}

// tight says that little is left.
func (g *Governor) tight() bool {
	return g != nil && (g.free.Load() < g.size/8 || g.parent.tight())
}

// Free is how many bytes are left to grant.
func (g *Governor) Free() int64 { return g.free.Load() }
