package link

import (
	"errors"
	"sync"
	"sync/atomic"
)

// Why a link carries nothing. Err of a link is, or wraps, one of these or what the device said.
var (
	ErrClosed = errors.New("the link is closed")
	ErrDown   = errors.New("the NIC is set down")
	ErrGone   = errors.New("the NIC is gone")
)

// life is whether a link carries frames: it does, or does not for a while, or has ended.
type life struct {
	trouble atomic.Pointer[error] // nil while all is well
	ending  sync.Once
	ended   chan struct{}
}

func newLife() life { return life{ended: make(chan struct{})} }

// Done is closed when the link has ended, by Close or by itself.
func (l *life) Done() <-chan struct{} { return l.ended }

// Err is nil while the link carries frames.
func (l *life) Err() error {
	if err := l.trouble.Load(); err != nil {
		return *err
	}
	return nil
}

// end ends the link for good; only the first reason counts.
func (l *life) end(err error) {
	l.ending.Do(func() {
		l.trouble.Store(&err)
		close(l.ended)
	})
}
