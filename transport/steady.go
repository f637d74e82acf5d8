package transport

import (
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
)

// A steadySocket is the UDP socket of a client's QUIC connection. Between one network and the next there is a moment
// without an address or a route, in which sending fails, and quic-go would end the connection for that. Once the
// connection stands such a packet counts as lost, as it would a hop further on, and is sent again.
type steadySocket struct {
	*net.UDPConn
	stands atomic.Bool
}

// WriteMsgUDP implements quic.OOBCapablePacketConn.
func (s *steadySocket) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	n, oobn, err = s.UDPConn.WriteMsgUDP(b, oob, to)
	if s.stands.Load() && networkGone(err) {
		return len(b), len(oob), nil
	}
	return n, oobn, err
}

func networkGone(err error) bool {
	var no syscall.Errno
	return errors.As(err, &no) && slices.Contains(gone, no)
}

// gone are what sending fails with where there is no network; the numbers are Windows's.
var gone = []syscall.Errno{syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL,
	10049, 10050, 10051, 10065}
