package netstack

import (
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A socket is what all that is opened on a stack has in common: an endpoint, the two bells by which the stack says that
// something has changed, deadlines, and an end.
type socket struct {
	network       string
	ep            tcpip.Endpoint
	wq            *waiter.Queue
	entry         waiter.Entry // registered from birth to close: one for the socket's life
	wake          signals
	local, remote net.Addr

	readBy, writeBy deadline

	closing sync.Once
	closed  chan struct{}
}

// signals are the bells. Each holds one ring, so none is lost between a look and a wait.
type signals struct {
	readable, writable chan struct{}
	later              atomic.Pointer[func()] // of whoever does not wait for readable; it is called once
}

const (
	endEvents   = waiter.EventErr | waiter.EventHUp
	readEvents  = waiter.ReadableEvents | waiter.EventRdHUp | endEvents
	writeEvents = waiter.WritableEvents | endEvents
)

// NotifyEvent is called by the stack, with its locks held.
func (s *signals) NotifyEvent(mask waiter.EventMask) {
	if mask&readEvents != 0 {
		ring(s.readable)
		s.call()
	}
	if mask&writeEvents != 0 {
		ring(s.writable)
	}
}

func (s *signals) call() {
	if later := s.later.Swap(nil); later != nil {
		(*later)()
	}
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

func (s *socket) init(network string, ep tcpip.Endpoint, wq *waiter.Queue) {
	s.network, s.ep, s.wq, s.closed = network, ep, wq, make(chan struct{})
	s.wake.readable, s.wake.writable = make(chan struct{}, 1), make(chan struct{}, 1)
	s.entry.Init(&s.wake, readEvents|writeEvents)
	wq.EventRegister(&s.entry)
}

// ended says whether the socket was closed here or its deadline has passed.
func (s *socket) ended(due <-chan struct{}) error {
	switch {
	case isClosed(s.closed):
		return net.ErrClosed
	case isClosed(due):
		return os.ErrDeadlineExceeded
	}
	return nil
}

// end closes the socket by how, once; whoever is blocked returns.
func (s *socket) end(how func()) error {
	err := error(s.opError("close", net.ErrClosed))
	s.closing.Do(func() {
		close(s.closed)
		s.wake.call()
		s.readBy.stop()
		s.writeBy.stop()
		how()
		s.wq.EventUnregister(&s.entry)
		err = nil
	})
	return err
}

// Close is net.Conn's.
func (s *socket) Close() error { return s.end(s.ep.Close) }

// LocalAddr is our address and port.
func (s *socket) LocalAddr() net.Addr { return s.local }

// RemoteAddr is the peer's address and port, nil if there is none.
func (s *socket) RemoteAddr() net.Addr { return s.remote }

// SetDeadline is net.Conn's.
func (s *socket) SetDeadline(t time.Time) error {
	s.readBy.set(t)
	s.writeBy.set(t)
	return nil
}

// SetReadDeadline is net.Conn's.
func (s *socket) SetReadDeadline(t time.Time) error {
	s.readBy.set(t)
	return nil
}

// SetWriteDeadline is net.Conn's.
func (s *socket) SetWriteDeadline(t time.Time) error {
	s.writeBy.set(t)
	return nil
}

func (s *socket) opError(op string, err error) *net.OpError {
	return opError(op, s.network, s.local, s.remote, err)
}

func wouldBlock(err tcpip.Error) bool {
	_, ok := err.(*tcpip.ErrWouldBlock)
	return ok
}
