package transport

import (
	"context"
	"io"
	"net"
	"sync"
	"syscall"
)

// A batch is the connection under crypto/tls, which reads and writes about one record, 16 KiB at most, a system call.
// Here one call brings all that has arrived, and the records of one Write leave by one call. It holds memory only while
// bytes are on their way through it.
type batch struct {
	net.Conn

	// Reading. One goroutine reads.
	wait func() error // returns when something can be read, or at the end; nil: reads are passed on as they are
	raw  *rawReader   // instead of wait and Conn.Read, where there is a kernel's socket
	in   *[batchIn]byte
	rest []byte // of in

	// Writing. crypto/tls may write an alert while somebody writes.
	mu    sync.Mutex
	holds bool // what is written waits for flush
	out   *[batchOut]byte
	n     int
	err   error // of a flush: the records in it are gone
}

const (
	batchIn  = 128 << 10
	batchOut = 64<<10 + 8*64 // a frame of the largest size as records
	record   = 16 << 10
)

var (
	batchIns  = sync.Pool{New: func() any { return new([batchIn]byte) }}
	batchOuts = sync.Pool{New: func() any { return new([batchOut]byte) }}
)

// newBatch returns a batch that passes reads on until readAhead.
func newBatch(c net.Conn) *batch { return &batch{Conn: c} }

// readAhead lets the batch read what has arrived from c, which is what it is made of without what only looks at the
// first bytes.
func (b *batch) readAhead(c net.Conn) {
	switch c := c.(type) {
	case interface{ WaitReadable(context.Context) error }:
		b.wait = func() error { return c.WaitReadable(context.Background()) }
	case syscall.Conn:
		if raw, err := c.SyscallConn(); err == nil {
			b.raw = newRawReader(raw)
		}
	}
}

func (b *batch) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		if b.raw == nil && b.wait == nil || len(p) == 0 {
			return b.Conn.Read(p)
		}
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.rest)
	if b.rest = b.rest[n:]; len(b.rest) == 0 {
		batchIns.Put(b.in)
		b.in, b.rest = nil, nil
	}
	return n, nil
}

// fill reads what has arrived.
func (b *batch) fill() (err error) {
	var n int
	if b.raw != nil {
		b.in, n, err = b.raw.read()
	} else if err = b.wait(); err == nil {
		b.in = batchIns.Get().(*[batchIn]byte)
		n, err = b.Conn.Read(b.in[:])
	}
	if n > 0 {
		b.rest = b.in[:n]
		return nil
	}
	if b.in != nil {
		batchIns.Put(b.in)
		b.in = nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// hold keeps what is written until flush.
func (b *batch) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holds = true
}

func (b *batch) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.holds = false
	return b.send()
}

func (b *batch) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	if b.holds && b.n+len(p) > batchOut {
		if err := b.send(); err != nil {
			return 0, err
		}
	}
	if !b.holds || len(p) > batchOut {
		return b.Conn.Write(p)
	}
	if b.out == nil {
		b.out = batchOuts.Get().(*[batchOut]byte)
	}
	b.n += copy(b.out[b.n:], p)
	return len(p), nil
}

// send writes what is held. The caller holds mu.
func (b *batch) send() error {
	if b.n == 0 {
		return b.err
	}
	_, b.err = b.Conn.Write(b.out[:b.n])
	batchOuts.Put(b.out)
	b.out, b.n = nil, 0
	return b.err
}
