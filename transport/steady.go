package transport

import (
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// A steadySocket is the UDP socket of a client's QUIC connection. Between one network and the next there is a moment
// without an address or a route, in which sending fails, and quic-go would end the connection for that. Once the
// connection stands such a packet counts as lost, as it would a hop further on, and is sent again. After steadyFor it is
// no moment any more.
type steadySocket struct {
	*net.UDPConn
	stands  atomic.Bool
	failing atomic.Pointer[time.Time] // since when; nil: it does not
}

const steadyFor = 3 * time.Second

// WriteMsgUDP implements quic.OOBCapablePacketConn.
func (s *steadySocket) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	if n, oobn, err = s.UDPConn.WriteMsgUDP(b, oob, to); s.forgives(err) {
		return len(b), len(oob), nil
	}
	return n, oobn, err
}

// WriteTo is what quic-go sends by where it has no WriteMsgUDP.
func (s *steadySocket) WriteTo(b []byte, to net.Addr) (int, error) {
	n, err := s.UDPConn.WriteTo(b, to)
	if s.forgives(err) {
		return len(b), nil
	}
	return n, err
}

// forgives says whether err is only that there is no network at the moment.
func (s *steadySocket) forgives(err error) bool {
	var no syscall.Errno
	switch {
	case err == nil:
		if s.failing.Load() != nil {
			s.failing.Store(nil)
		}
		return false
	case !s.stands.Load() || !errors.As(err, &no) || !slices.Contains(noNetwork, no):
		return false
	}
	now := time.Now()
	s.failing.CompareAndSwap(nil, &now)
	since := s.failing.Load()
	return since == nil || now.Sub(*since) < steadyFor
}
