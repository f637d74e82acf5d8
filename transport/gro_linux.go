package transport

import (
	"encoding/binary"
	"errors"
	"net"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

const (
	groBatch = 4        // reads of one system call
	groMost  = 64 << 10 // bytes that one of them may bring
	groOOB   = 256      // bytes of control messages with it
)

// A groSocket has the kernel hand over what a sender has sent in a row as one long datagram (UDP_GRO, udp(7)), and gives
// quic-go the datagrams that it is made of.
type groSocket struct {
	udpSocket
	conn *ipv4.PacketConn
	msgs []ipv4.Message
	left []ipv4.Message // of msgs: the first has been given away up to at
	at   int
	size int    // of a datagram of it
	from *tally // its sender's; nil: nobody waits for that one's connection
	pace pace
}

// aggregate returns c with UDP_GRO, or c itself where the kernel has no such thing.
func aggregate(c udpSocket) net.PacketConn {
	if setGRO(c, 1) != nil {
		return c
	}
	s := &groSocket{udpSocket: c, conn: ipv4.NewPacketConn(c), msgs: make([]ipv4.Message, groBatch)}
	for i := range s.msgs {
		s.msgs[i].Buffers = [][]byte{make([]byte, groMost)}
		s.msgs[i].OOB = make([]byte, groOOB)
	}
	return s
}

// separate undoes aggregate.
func separate(c udpSocket) { setGRO(c, 0) }

func setGRO(c udpSocket, value int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, value) })
	return errors.Join(err, set)
}

// ReadBatch fills ms, each with one datagram, from what has arrived, and waits only for the first and as pace says. It is
// for one goroutine.
func (s *groSocket) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	if len(s.left) == 0 {
		n, err := s.conn.ReadBatch(s.msgs, flags)
		if err != nil {
			return 0, err
		}
		s.left = s.msgs[:n]
		s.begin()
	}
	if s.from != nil {
		s.pace.await(s.from)
	}
	n := 0
	for ; n < len(ms) && len(s.left) > 0; n++ {
		long := &s.left[0]
		one := &ms[n]
		part := long.Buffers[0][s.at:long.N]
		part = part[:min(s.size, len(part))]
		one.N = copy(one.Buffers[0], part)
		one.NN = copy(one.OOB, long.OOB[:long.NN])
		one.Addr, one.Flags = long.Addr, long.Flags
		if s.from != nil {
			s.from.given += uint64(len(part))
		}
		if s.at += len(part); s.at >= long.N {
			s.left = s.left[1:]
			s.begin()
		}
	}
	return n, nil
}

// follow has what reads c wait for a connection that is behind, until forget is called.
func follow(c net.PacketConn, conn *quic.Conn) (forget func()) {
	s, ok := c.(*groSocket)
	if !ok {
		return func() {}
	}
	return s.pace.follow(addrPort(conn.RemoteAddr()), func() uint64 { return conn.ConnectionStats().BytesReceived })
}

// begin looks at the first of left.
func (s *groSocket) begin() {
	if s.at = 0; len(s.left) > 0 {
		s.size = datagramSize(s.left[0].OOB[:s.left[0].NN], s.left[0].N)
		s.from = s.pace.of(addrPort(s.left[0].Addr))
	}
}

// datagramSize is the size of the datagrams that a read of n bytes is made of, as its control messages tell; the last one
// may be shorter.
func datagramSize(oob []byte, n int) int {
	for len(oob) >= unix.SizeofCmsghdr {
		h, body, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(body) >= 4 {
			if size := int(int32(binary.NativeEndian.Uint32(body))); size > 0 {
				return size
			}
		}
		oob = rest
	}
	return max(1, n)
}
