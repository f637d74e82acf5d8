package link

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// TestWindow: a full window waits for what comes out, and not for what never does.
func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, closed := newWindow(), make(chan struct{})
		waited := func() time.Duration {
			begin := time.Now()
			w.wait(closed)
			return time.Since(begin)
		}
		w.enter(insideMax - wireGuardBatch)
		if d := waited(); d != 0 {
			t.Errorf("with room for a batch it waited %v", d)
		}
		w.enter(1)
		time.AfterFunc(time.Millisecond, func() { w.leave(1) })
		if d := waited(); d != time.Millisecond {
			t.Errorf("waited %v for one to come out after 1ms", d)
		}
		w.enter(insideMax)
		if d := waited(); d != writeOff || w.in.Load() != 0 {
			t.Errorf("waited %v, %d inside", d, w.in.Load())
		}
		w.leave(5) // the device's own
		if w.in.Load() != 0 {
			t.Errorf("%d inside", w.in.Load())
		}
		w.enter(insideMax)
		close(closed)
		if d := waited(); d != 0 {
			t.Errorf("closed, it waited %v", d)
		}
	})
}

// TestPack: datagrams of one size in a row go together, and a shorter one ends the row.
func TestPack(t *testing.T) {
	for _, c := range []struct {
		cut  bool
		in   []int
		want string
	}{
		{true, []int{100, 100, 100}, "[100 100 100]"},
		{true, []int{100, 100, 40, 100}, "[100 100 40] [100]"},
		{true, []int{40, 100, 100}, "[40] [100 100]"},
		{true, []int{40000, 40000}, "[40000] [40000]"},
		{false, []int{100, 100}, "[100] [100]"},
	} {
		var bufs [][]byte
		for _, size := range c.in {
			bufs = append(bufs, make([]byte, size))
		}
		var got []string
		for _, m := range pack(newMessagesOf(wireGuardBatch), bufs, new(endpoint), c.cut) {
			var sizes []int
			for _, b := range m.Buffers {
				sizes = append(sizes, len(b))
			}
			got = append(got, fmt.Sprint(sizes))
			if asks := len(m.OOB) > 0; asks != (len(sizes) > 1) {
				t.Errorf("%v: asks to cut %v: %t", c.in, sizes, asks)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%v: %s, want %s", c.in, s, c.want)
		}
	}
}

// tcpPacket is a packet as the stack hands it down: the checksum is still to be made, the MSS is in its options.
func tcpPacket(v4 bool, data []byte, mss uint16) *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: 100, Payload: buffer.MakeWithData(data)})
	tcp := header.TCP(pkt.TransportHeader().Push(header.TCPMinimumSize))
	tcp.Encode(&header.TCPFields{SrcPort: 1000, DstPort: 22, SeqNum: 1<<32 - 1000, AckNum: 7, DataOffset: header.TCPMinimumSize,
		Flags: header.TCPFlagAck | header.TCPFlagPsh | header.TCPFlagCwr, WindowSize: 500})
	pkt.GSOOptions = stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, MSS: mss, L3HdrLen: header.IPv4MinimumSize}
	if v4 {
		ip := header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize))
		ip.Encode(&header.IPv4Fields{TotalLength: uint16(pkt.Size()), ID: 65535, TTL: 64, Protocol: 6,
			SrcAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), DstAddr: tcpip.AddrFrom4([4]byte{10, 0, 0, 2})})
		pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
		return pkt
	}
	pkt.GSOOptions.Type, pkt.GSOOptions.L3HdrLen = stack.GSOTCPv6, header.IPv6MinimumSize
	ip := header.IPv6(pkt.NetworkHeader().Push(header.IPv6MinimumSize))
	ip.Encode(&header.IPv6Fields{PayloadLength: uint16(header.TCPMinimumSize + len(data)), TransportProtocol: 6, HopLimit: 64,
		SrcAddr: tcpip.AddrFrom16([16]byte{0xfd, 15: 1}), DstAddr: tcpip.AddrFrom16([16]byte{0xfd, 15: 2})})
	pkt.NetworkProtocolNumber = header.IPv6ProtocolNumber
	return pkt
}

// TestSegments puts together again what was cut.
func TestSegments(t *testing.T) {
	const mss = 1000
	for _, v4 := range []bool{true, false} {
		for _, size := range []int{0, 1, mss - 1, mss, mss + 1, 10 * mss, 60000} {
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(i * 7 / 5)
			}
			s := newSegments(tcpPacket(v4, data, mss), 1420)
			var got []byte
			p := make([]byte, 2000)
			count := 0
			for n := s.next(p); n > 0; n = s.next(p) {
				var tcp header.TCP
				var src, dst tcpip.Address
				if v4 {
					ip := header.IPv4(p[:n])
					if !ip.IsValid(n) || !ip.IsChecksumValid() || ip.ID() != uint16(65535+count) {
						t.Fatalf("segment %d of %d bytes: bad IPv4 header %x", count, size, ip[:20])
					}
					tcp, src, dst = header.TCP(ip.Payload()), ip.SourceAddress(), ip.DestinationAddress()
				} else {
					ip := header.IPv6(p[:n])
					if !ip.IsValid(n) {
						t.Fatalf("segment %d of %d bytes: bad IPv6 header %x", count, size, ip[:40])
					}
					tcp, src, dst = header.TCP(ip.Payload()), ip.SourceAddress(), ip.DestinationAddress()
				}
				if !tcp.IsChecksumValid(src, dst, checksum.Checksum(tcp.Payload(), 0), uint16(len(tcp.Payload()))) {
					t.Errorf("segment %d of %d bytes: bad checksum", count, size)
				}
				want := header.TCPFlagAck
				if count == 0 {
					want |= header.TCPFlagCwr
				}
				if len(got)+len(tcp.Payload()) == size {
					want |= header.TCPFlagPsh
				}
				if at := uint32(1<<32 - 1000 + len(got)); tcp.SequenceNumber() != at || tcp.Flags() != want {
					t.Errorf("segment %d of %d bytes: sequence %d, want %d; flags %v, want %v", count, size, tcp.SequenceNumber(), at, tcp.Flags(), want)
				}
				got = append(got, tcp.Payload()...)
				count++
			}
			s.release()
			if !bytes.Equal(got, data) || count != max(1, (size+mss-1)/mss) {
				t.Errorf("%d bytes came out as %d in %d segments", size, len(got), count)
			}
		}
	}
}
