package link

import (
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// segments are what becomes of one packet of the stack that nobody below us cuts: itself, or, of a TCP packet larger
// than its MSS, several with headers of their own.
type segments struct {
	packet buffer.Buffer // all of it, from the IP header on
	v4     bool
	tcp    bool // has a checksum to be finished, and may have to be cut
	ip     int  // size of the IP header
	head   int  // size of both headers
	mss    int
	at     int // how much of the data has been handed out
	size   int // of the data
	first  bool
}

// newSegments takes pkt over.
func newSegments(pkt *stack.PacketBuffer, mtu int) *segments {
	defer pkt.DecRef()
	s := &segments{packet: pkt.ToBuffer(), first: true, v4: pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber}
	gso := pkt.GSOOptions
	s.tcp = (gso.Type == stack.GSOTCPv4 || gso.Type == stack.GSOTCPv6) && gso.NeedsCsum
	if !s.tcp {
		s.size = int(s.packet.Size())
		return s
	}
	s.ip, s.head = int(gso.L3HdrLen), pkt.HeaderSize()
	s.size = int(s.packet.Size()) - s.head
	s.mss = min(int(gso.MSS), mtu-s.head)
	return s
}

// next writes the next packet to p and says how large it is; 0 when there are no more.
func (s *segments) next(p []byte) int {
	if !s.first && s.at == s.size {
		return 0
	}
	if !s.tcp {
		s.first, s.at = false, s.size
		n, _ := s.packet.ReadAt(p[:min(s.size, len(p))], 0)
		return n
	}
	n := min(s.mss, s.size-s.at)
	s.packet.ReadAt(p[:s.head], 0)
	if n > 0 {
		s.packet.ReadAt(p[s.head:s.head+n], int64(s.head+s.at))
	}
	p = p[:s.head+n]
	s.address(p)
	s.first = false
	s.at += n
	return len(p)
}

// address mends the headers of a segment.
func (s *segments) address(p []byte) {
	var src, dst tcpip.Address
	if s.v4 {
		ip := header.IPv4(p)
		ip.SetTotalLength(uint16(len(p)))
		ip.SetID(ip.ID() + uint16(s.at/max(s.mss, 1)))
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		src, dst = ip.SourceAddress(), ip.DestinationAddress()
	} else {
		ip := header.IPv6(p)
		ip.SetPayloadLength(uint16(len(p) - header.IPv6MinimumSize))
		src, dst = ip.SourceAddress(), ip.DestinationAddress()
	}
	tcp := header.TCP(p[s.ip:])
	tcp.SetSequenceNumber(tcp.SequenceNumber() + uint32(s.at))
	flags := tcp.Flags()
	if s.at+(len(p)-s.head) < s.size { // only the last one ends anything
		flags &^= header.TCPFlagFin | header.TCPFlagPsh
	}
	if !s.first {
		flags &^= header.TCPFlagCwr
	}
	tcp.SetFlags(uint8(flags))
	tcp.SetChecksum(0)
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(len(tcp)))
	tcp.SetChecksum(^checksum.Checksum(tcp, sum))
}

func (s *segments) release() { s.packet.Release() }
