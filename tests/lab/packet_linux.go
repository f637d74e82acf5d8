package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// A Packet is what a capture remembers of one frame. From and To have port 0 where the protocol has none; for ARP they
// are the sender and the target.
type Packet struct {
	Time      time.Time
	Out       bool // sent by the machine on which the capture runs
	SrcMAC    net.HardwareAddr
	DstMAC    net.HardwareAddr
	EtherType uint16
	Protocol  uint8 // of IP: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6
	From, To  netip.AddrPort
	Flags     TCPFlags
	Seq, Ack  uint32
	Length    int // of the frame; above the MTU where the kernel has joined or not yet split segments

	head []byte // for WritePCAP
}

// EtherTypes and IP protocols that tests ask for.
const (
	EtherTypeIPv4 = 0x0800
	EtherTypeARP  = 0x0806
	EtherTypeIPv6 = 0x86dd

	ProtocolICMP   = 1
	ProtocolTCP    = 6
	ProtocolUDP    = 17
	ProtocolICMPv6 = 58
)

// TCPFlags are the flags of a TCP segment.
type TCPFlags uint8

// The flags that a handshake and its refusal show.
const (
	FIN TCPFlags = 1 << iota
	SYN
	RST
	PSH
	ACK
)

// Has says whether all of f are set.
func (t TCPFlags) Has(f TCPFlags) bool { return t&f == f }

func (p Packet) String() string {
	way := "in"
	if p.Out {
		way = "out"
	}
	return fmt.Sprintf("%s %-3s %v > %v type %04x proto %d %v > %v flags %02x len %d",
		p.Time.Format("15:04:05.000000"), way, p.SrcMAC, p.DstMAC, p.EtherType, p.Protocol, p.From, p.To, p.Flags, p.Length)
}

// decode reads the headers of a frame, as far as they are there.
func decode(frame []byte) Packet {
	if len(frame) < 14 {
		return Packet{}
	}
	p := Packet{
		DstMAC:    net.HardwareAddr(frame[0:6]),
		SrcMAC:    net.HardwareAddr(frame[6:12]),
		EtherType: binary.BigEndian.Uint16(frame[12:]),
		head:      frame,
	}
	body := frame[14:]
	switch p.EtherType {
	case EtherTypeARP:
		if len(body) >= 28 {
			p.From = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[14:18])), 0)
			p.To = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[24:28])), 0)
		}
	case EtherTypeIPv4:
		p.ipv4(body)
	case EtherTypeIPv6:
		p.ipv6(body)
	}
	return p
}

func (p *Packet) ipv4(b []byte) {
	if len(b) < 20 {
		return
	}
	p.Protocol = b[9]
	from, to := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	size := int(b[0]&0xf) * 4
	first := binary.BigEndian.Uint16(b[6:])&0x1fff == 0 // only the first fragment has ports
	if !first || size > len(b) {
		b, size = nil, 0
	}
	p.transport(from, to, b[size:])
}

func (p *Packet) ipv6(b []byte) {
	if len(b) < 40 {
		return
	}
	p.Protocol = b[6]
	from, to := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	b = b[40:]
	for len(b) >= 8 {
		size := int(b[1])*8 + 8
		switch p.Protocol {
		case 0, 43, 60: // hop-by-hop, routing, destination options
		case 44: // fragment
			size = 8
		default:
			p.transport(from, to, b)
			return
		}
		if size > len(b) {
			break
		}
		p.Protocol, b = b[0], b[size:]
	}
	p.transport(from, to, nil)
}

func (p *Packet) transport(from, to netip.Addr, b []byte) {
	var sport, dport uint16
	if (p.Protocol == ProtocolTCP || p.Protocol == ProtocolUDP) && len(b) >= 4 {
		sport, dport = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
	if p.Protocol == ProtocolTCP && len(b) >= 14 {
		p.Seq, p.Ack, p.Flags = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:]), TCPFlags(b[13])
	}
	p.From, p.To = netip.AddrPortFrom(from, sport), netip.AddrPortFrom(to, dport)
}
