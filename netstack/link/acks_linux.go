package link

import (
	"bytes"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Each ACK that is delivered wakes the stack's sender, which then sends what that one ACK has made room for. Of several
// that came together the last says all: delivered alone, it makes room for one large segment instead of many small ones.
// TCP counts bytes, not ACKs, so its congestion window grows as before. Only ACKs that say nothing else are left out:
// no data, no flag, no SACK, no second one for the same byte, which would mean a loss.

// timestamps is the one option that such an ACK may carry (RFC 7323), as everybody pads it.
var timestamps = []byte{header.TCPOptionNOP, header.TCPOptionNOP, header.TCPOptionTS, header.TCPOptionTSLength}

// An ack is a frame that is nothing but an acknowledgement; its zero value is any other frame.
type ack struct {
	pure bool
	flow [36]byte // addresses and ports
	seq  uint32
	ack  uint32
}

// says reports whether b says all that a says.
func (b *ack) says(a *ack) bool {
	return b.pure && b.flow == a.flow && b.seq == a.seq && int32(b.ack-a.ack) > 0
}

// thin marks the slots of a batch whose frames need not be delivered.
func thin(slots []slot) {
	var acks [packetBatch]ack
	pure := 0
	for i := range slots {
		if s := &slots[i]; s.vnet.vouched() && s.size-vnetSize <= smallPiece {
			acks[i] = ackOf(s.views[0].AsSlice()[:s.size-vnetSize])
			if acks[i].pure {
				pure++
			}
		}
	}
	if pure < 2 {
		return
	}
	for i := range slots {
		if !acks[i].pure {
			continue
		}
		for j := i + 1; j < len(slots); j++ {
			if acks[j].says(&acks[i]) {
				slots[i].idle = true
				break
			}
		}
	}
}

// ackOf looks at an Ethernet frame whose checksums are known to be good.
func ackOf(frame []byte) (a ack) {
	if len(frame) < header.EthernetMinimumSize+header.IPv4MinimumSize+header.TCPMinimumSize {
		return a
	}
	var tcp header.TCP
	var addresses []byte
	switch packet := frame[header.EthernetMinimumSize:]; header.Ethernet(frame).Type() {
	case header.IPv4ProtocolNumber:
		ip := header.IPv4(packet)
		end := int(ip.TotalLength())
		if packet[0] != 0x45 || ip.Protocol() != uint8(header.TCPProtocolNumber) || ip.More() || ip.FragmentOffset() != 0 || end > len(packet) || end < header.IPv4MinimumSize {
			return a
		}
		addresses, tcp = packet[12:20], header.TCP(packet[header.IPv4MinimumSize:end])
	case header.IPv6ProtocolNumber:
		ip := header.IPv6(packet)
		if len(packet) < header.IPv6MinimumSize {
			return a
		}
		end := header.IPv6MinimumSize + int(ip.PayloadLength())
		if packet[0]>>4 != 6 || ip.NextHeader() != uint8(header.TCPProtocolNumber) || end > len(packet) {
			return a
		}
		addresses, tcp = packet[8:40], header.TCP(packet[header.IPv6MinimumSize:end])
	default:
		return a
	}
	if len(tcp) < header.TCPMinimumSize || int(tcp.DataOffset()) != len(tcp) || tcp.Flags() != header.TCPFlagAck {
		return a
	}
	if options := tcp[header.TCPMinimumSize:]; len(options) != 0 && (len(options) != len(timestamps)+8 || !bytes.HasPrefix(options, timestamps)) {
		return a
	}
	copy(a.flow[copy(a.flow[:], addresses):], tcp[:4])
	a.pure, a.seq, a.ack = true, tcp.SequenceNumber(), tcp.AckNumber()
	return a
}
