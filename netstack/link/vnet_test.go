package link

import (
	"testing"

	"go.uber.org/goleak"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// packet makes an IP packet of a protocol with right checksums.
func packet(v6 bool, l4 tcpip.TransportProtocolNumber, payload string) []byte {
	headers := map[tcpip.TransportProtocolNumber]int{header.TCPProtocolNumber: 20, header.UDPProtocolNumber: 8}[l4]
	size := headers + len(payload)
	var b []byte
	var src, dst tcpip.Address
	if v6 {
		b = make([]byte, header.IPv6MinimumSize+size)
		src, dst = tcpip.AddrFrom16([16]byte{0xfd, 1}), tcpip.AddrFrom16([16]byte{0xfd, 2})
		header.IPv6(b).Encode(&header.IPv6Fields{PayloadLength: uint16(size), TransportProtocol: l4, HopLimit: 64, SrcAddr: src, DstAddr: dst})
	} else {
		b = make([]byte, header.IPv4MinimumSize+size)
		src, dst = tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), tcpip.AddrFrom4([4]byte{10, 0, 0, 2})
		header.IPv4(b).Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: uint8(l4), SrcAddr: src, DstAddr: dst})
		header.IPv4(b).SetChecksum(^header.IPv4(b).CalculateChecksum())
	}
	body := b[len(b)-size:]
	copy(body[headers:], payload)
	pseudo := header.PseudoHeaderChecksum(l4, src, dst, uint16(size))
	if l4 == header.TCPProtocolNumber {
		header.TCP(body).Encode(&header.TCPFields{SrcPort: 1, DstPort: 2, DataOffset: 20})
		sum := sumOf(body, pseudo)
		header.TCP(body).SetChecksum(^sum)
	} else {
		header.UDP(body).Encode(&header.UDPFields{SrcPort: 1, DstPort: 2, Length: uint16(size)})
		sum := sumOf(body, pseudo)
		header.UDP(body).SetChecksum(^sum)
	}
	return b
}

// sumOf is the Internet checksum, told plainly.
func sumOf(b []byte, initial uint16) uint16 {
	sum := uint32(initial)
	for i, c := range b {
		if i%2 == 0 {
			sum += uint32(c) << 8
		} else {
			sum += uint32(c)
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// TestIntact turns each bit of packets whose checksums nobody has vouched for.
func TestIntact(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, l4 := range []tcpip.TransportProtocolNumber{header.TCPProtocolNumber, header.UDPProtocolNumber} {
			proto := header.IPv4ProtocolNumber
			if v6 {
				proto = header.IPv6ProtocolNumber
			}
			p := packet(v6, l4, "some payload, odd")
			padded := append(p, 0, 0, 0) // as short Ethernet frames are
			for cut := 48; cut <= len(padded); cut++ {
				if !intact(proto, padded[:cut], padded[cut:]) {
					t.Fatalf("v6 %v, protocol %d: good, but refused when cut at %d", v6, l4, cut)
				}
			}
			for bit := range 8 * len(p) {
				i := bit / 8
				if v6 && (i < 4 || i == 6 || i == 7) || !v6 && (i == 6 || i == 7 || i == 9) {
					continue // no checksum covers the class, the flow label and the hop limit; other headers are not ours to check
				}
				p[i] ^= 1 << (bit % 8)
				if intact(proto, p, nil) {
					t.Errorf("v6 %v, protocol %d: bit %d of byte %d was turned unnoticed", v6, l4, bit%8, i)
				}
				p[i] ^= 1 << (bit % 8)
			}
		}
	}
}

// A frame is cut only if its header is one, for the kernel passes on what a neighbour says.
func TestSplit(t *testing.T) {
	for _, test := range []struct {
		name   string
		frame  []byte
		pieces int
	}{
		{"IPv4", inFrame(packet(false, header.UDPProtocolNumber, "abcde")), 3},
		{"IPv6", inFrame(packet(true, header.UDPProtocolNumber, "abcde")), 3},
		{"TCP", inFrame(packet(false, header.TCPProtocolNumber, "abcde")), 0},
		{"no header at all", withFirst(0x40), 0},
		{"a header of 16 bytes", withFirst(0x44), 0},
		{"a header that is longer than the frame", withFirst(0x4f), 0},
		{"no packet", inFrame(nil), 0},
	} {
		if got := split(test.frame, 2); len(got) != test.pieces {
			t.Errorf("%s: %d pieces", test.name, len(got))
		}
	}
}

// inFrame puts a packet into an Ethernet frame.
func inFrame(ip []byte) []byte {
	f := make([]byte, header.EthernetMinimumSize, header.EthernetMinimumSize+len(ip))
	f[12], f[13] = 0x08, 0x00
	if len(ip) > 0 && ip[0]>>4 == 6 {
		f[12], f[13] = 0x86, 0xdd
	}
	return append(f, ip...)
}

// withFirst is a frame of a UDP datagram whose packet begins with the byte, for version and header length.
func withFirst(b byte) []byte {
	f := inFrame(packet(false, header.UDPProtocolNumber, "abcde"))
	f[header.EthernetMinimumSize] = b
	return f
}

func FuzzIntact(f *testing.F) {
	f.Add(packet(false, header.TCPProtocolNumber, "x"), uint16(30))
	f.Add(packet(true, header.UDPProtocolNumber, "x"), uint16(48))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16) {
		n := min(int(cut), len(b))
		intact(header.IPv4ProtocolNumber, b[:n], b[n:])
		intact(header.IPv6ProtocolNumber, b[:n], b[n:])
		split(b, 1+int(cut))
		split(inFrame(b), 1+int(cut))
	})
}
