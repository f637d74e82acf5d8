package link

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// The kernel and we put struct virtio_net_hdr before each frame. It says what is still to be done with the frame (cut
// it into segments, finish its checksum) or what has been done already.
const (
	vnetSize = 10

	vnetNeedsChecksum = 1 // flags: the checksum from csum_start on is not there yet
	vnetDataValid     = 2 // flags: the checksum was checked

	vnetTCP4 = 1 // gso_type
	vnetTCP6 = 4
	vnetUDP  = 5
	vnetECN  = 0x80 // a flag in gso_type
)

// A vnetHeader is little-endian in its 16-bit fields: that of the machine, on all machines that we run on.
type vnetHeader [vnetSize]byte

// describe fills in the header of an outgoing packet. Only a TCP segment asks for a checksum, and only one that is
// larger than the MSS to be cut.
func (h *vnetHeader) describe(pkt *stack.PacketBuffer) {
	*h = vnetHeader{}
	gso := pkt.GSOOptions
	if gso.Type != stack.GSOTCPv4 && gso.Type != stack.GSOTCPv6 {
		return
	}
	binary.LittleEndian.PutUint16(h[2:], uint16(pkt.HeaderSize()))
	if gso.NeedsCsum {
		h[0] = vnetNeedsChecksum
		binary.LittleEndian.PutUint16(h[6:], header.EthernetMinimumSize+gso.L3HdrLen)
		binary.LittleEndian.PutUint16(h[8:], gso.CsumOffset)
	}
	if pkt.Data().Size() > int(gso.MSS) {
		h[1] = vnetTCP4
		if gso.Type == stack.GSOTCPv6 {
			h[1] = vnetTCP6
		}
		binary.LittleEndian.PutUint16(h[4:], gso.MSS)
	}
}

// vouched says whether an incoming frame's checksum was checked, or needs no check because it never left this machine.
func (h *vnetHeader) vouched() bool { return h[0]&(vnetNeedsChecksum|vnetDataValid) != 0 }

// datagrams is the size of the UDP datagrams of which an incoming frame holds several, 0 if it is an ordinary frame.
func (h *vnetHeader) datagrams() int {
	if h[1]&^vnetECN != vnetUDP {
		return 0
	}
	return int(binary.LittleEndian.Uint16(h[4:]))
}

// split cuts a frame of several UDP datagrams, as a sender's UDP_SEGMENT or a NIC's GRO makes them, into one frame for
// each, and none out of what is no such frame. TCP needs no such thing, for it has no message boundaries to lose.
func split(frame []byte, size int) [][]byte {
	if len(frame) < header.EthernetMinimumSize+header.IPv4MinimumSize {
		return nil
	}
	ip := frame[header.EthernetMinimumSize:]
	headers := header.EthernetMinimumSize + header.UDPMinimumSize
	v4 := header.Ethernet(frame).Type() == header.IPv4ProtocolNumber
	if v4 {
		if ip := header.IPv4(ip); ip.HeaderLength() < header.IPv4MinimumSize || ip.TransportProtocol() != header.UDPProtocolNumber {
			return nil
		}
		headers += int(header.IPv4(ip).HeaderLength())
	} else {
		headers += header.IPv6MinimumSize
	}
	if len(frame) < headers {
		return nil
	}
	var all [][]byte
	for payload := frame[headers:]; len(payload) > 0; {
		n := min(size, len(payload))
		f := append(append(make([]byte, 0, headers+n), frame[:headers]...), payload[:n]...)
		payload = payload[n:]
		if ip := f[header.EthernetMinimumSize:]; v4 {
			header.IPv4(ip).SetTotalLength(uint16(len(ip)))
			header.IPv4(ip).SetChecksum(0)
			header.IPv4(ip).SetChecksum(^header.IPv4(ip).CalculateChecksum())
		} else {
			header.IPv6(ip).SetPayloadLength(uint16(len(ip) - header.IPv6MinimumSize))
		}
		header.UDP(f[headers-header.UDPMinimumSize:]).SetLength(uint16(header.UDPMinimumSize + n))
		all = append(all, f)
	}
	return all
}

// intact checks the checksums of an IP packet that nobody has vouched for: some NICs leave that to the kernel, which
// has not come to it when we see the frame. The packet comes in two pieces, of which the first holds all headers. What
// is not TCP, UDP or ICMPv6, and fragments, pass: the first have a check of their own or none, the rest is incomplete.
func intact(proto tcpip.NetworkProtocolNumber, first, second []byte) bool {
	var (
		src, dst tcpip.Address
		l4       tcpip.TransportProtocolNumber
		size     int
		headers  int
	)
	switch proto {
	case header.IPv4ProtocolNumber:
		ip := header.IPv4(first)
		if !ip.IsValid(len(first)+len(second)) || int(ip.HeaderLength()) > len(first) || !ip.IsChecksumValid() {
			return false
		}
		if ip.More() || ip.FragmentOffset() != 0 {
			return true
		}
		src, dst, l4 = ip.SourceAddress(), ip.DestinationAddress(), ip.TransportProtocol()
		headers, size = int(ip.HeaderLength()), int(ip.TotalLength())
	case header.IPv6ProtocolNumber:
		ip := header.IPv6(first)
		if !ip.IsValid(len(first) + len(second)) {
			return false
		}
		src, dst, l4 = ip.SourceAddress(), ip.DestinationAddress(), tcpip.TransportProtocolNumber(ip.NextHeader())
		headers, size = header.IPv6MinimumSize, header.IPv6MinimumSize+int(ip.PayloadLength())
	default:
		return true
	}
	switch l4 {
	case header.TCPProtocolNumber, header.ICMPv6ProtocolNumber:
	case header.UDPProtocolNumber:
		if len(first) < headers+header.UDPMinimumSize {
			return false
		}
		if header.UDP(first[headers:]).Checksum() == 0 && proto == header.IPv4ProtocolNumber {
			return true // the sender has left it out
		}
	default:
		return true
	}
	var sum checksum.Checksumer
	head := min(size, len(first))
	sum.Add(first[headers:head])
	sum.Add(second[:size-head])
	pseudo := header.PseudoHeaderChecksum(l4, src, dst, uint16(size-headers))
	return checksum.Combine(pseudo, sum.Checksum()) == 0xffff
}
