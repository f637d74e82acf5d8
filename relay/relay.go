// Package relay moves bytes between a frame stream and the conn beside it until both directions have ended.
//
//	r := relay.Pump(ctx, stream, relay.Wrap(conn), relay.Options{Idle: 15 * time.Minute})
//	log.Info("flow ended", "up", r.Up, "down", r.Down, "cause", r.Err)
//
// # Who holds what
//
// A relay that is idle holds one parked goroutine, or two where the conn can only be waited for, and no buffer. Bytes are
// read only after WaitReadable has said that they are there, into memory that the receiving side lends (Reserve) and sends from (Commit).
//
//	up      stream → conn    library → slab → conn      the stream's reader runs in Deliver and never blocks on the conn
//	down    conn → stream    conn → slab → library      wait, reserve, read, commit
//	parked  nothing
//
// # Cancellation
//
// The end of ctx ends both directions at once; its cause becomes Result.Err.
package relay

import (
	"context"
)

// A Source says when it has bytes, so that nothing is held for it while it has none.
type Source interface {
	// WaitReadable blocks until Read would not: bytes, the end of the stream or an error are there.
	// It returns the cause of ctx when that ends first.
	//
	// If later is not nil it may return false after a while instead, so that nobody need wait: later is called once when
	// Read would not block, by whoever notices; it does not block.
	WaitReadable(ctx context.Context, later func()) (now bool, err error)

	// Read is io.Reader's; after WaitReadable has returned true it does not block.
	Read(p []byte) (int, error)

	// Buffered is how many bytes the next Read could deliver, as far as the source knows; a hint, 0 if it does not.
	Buffered() int
}

// A Sink lends the memory that it sends from, so that bytes are read into it once and written from it once.
type Sink interface {
	// Reserve blocks until the sink may take more and lends a slice of at least one byte. It is valid until Commit.
	Reserve(ctx context.Context) ([]byte, error)

	// Commit sends the first n bytes of what Reserve lent and gives the rest back; n may be 0.
	Commit(n int) error

	// CloseWrite says that no more bytes follow.
	CloseWrite() error
}

// A Taker is the next hop of bytes that have arrived. (An alias, so that streams need not import this package.)
type Taker = interface {
	// Take accepts what it can without blocking and says how much that is; 0 and nil mean that it is full.
	// It does not keep p.
	Take(p []byte) (int, error)

	// WaitWritable blocks until Take would accept something or fail. It returns the cause of ctx when that ends first.
	WaitWritable(ctx context.Context) error

	// CloseWrite says that no more bytes follow. It comes after a WaitWritable and the last Take.
	CloseWrite() error
}

// A Conn is the side of a relay that is not frames: a TCP connection, a pair of pipes.
type Conn interface {
	Source
	Taker
	// Close ends both directions at once; what is blocked returns.
	Close() error
}

// A Stream is the side of a relay that is frames. A *frame.Stream is one.
type Stream interface {
	Sink
	// Deliver runs the stream's own reader in the calling goroutine: what arrives is offered to dst, and the stream's
	// end is passed on as dst.CloseWrite. It returns nil after that, else why it could not go on.
	Deliver(ctx context.Context, dst Taker) error
}
