package transport

import (
	"net"
	"sync"
)

// A batch is the connection under crypto/tls, which writes each record, 16 KiB at most, by a system call of its own: here
// the records of one Write leave by one call. It holds memory only while they are on their way.
//
// Reading many records by one call was tried too, by a buffer of 128 KiB that is there only while bytes are in it: it
// costs more than it saves.
type batch struct {
	net.Conn
	parked *parked // may be nil

	mu    sync.Mutex // crypto/tls may write an alert while somebody writes
	holds bool       // what is written waits for flush
	out   *[batchOut]byte
	n     int
	err   error // of a flush: the records in it are gone
}

const (
	batchOut = 64<<10 + 8*64 // a frame of the largest size as records
	record   = 16 << 10
)

var batchOuts = sync.Pool{New: func() any { return new([batchOut]byte) }}

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
