package frame

import (
	"io"
	"sync/atomic"
	"time"
)

// A Carrier is the place of one flow on a transport connection: a QUIC stream, or an HTTPS connection of its own.
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

// A Governor bounds the room that all flows together have granted beyond their first limit, in bytes. Its zero value
// grants nothing; nil grants everything.
type Governor struct {
	free atomic.Int64
}

// NewGovernor returns a Governor that has room bytes to grant.
func NewGovernor(room int64) *Governor {
	g := new(Governor)
	g.free.Store(room)
	return g
}

// take reserves n bytes, or none.
func (g *Governor) take(n int) bool {
	if g == nil {
		return true
	}
	if g.free.Add(-int64(n)) < 0 {
		g.free.Add(int64(n))
		return false
	}
	return true
}

func (g *Governor) give(n int) {
	if g != nil {
		g.free.Add(int64(n))
	}
}

// Free is how many bytes are left to grant.
func (g *Governor) Free() int64 { return g.free.Load() }
