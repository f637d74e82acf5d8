package transport

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"sallyport/tests/measure"
)

// TestAggregate: what a sender has sent in a row comes as the datagrams that it is made of, however few are asked for at
// once.
func TestAggregate(t *testing.T) {
	for _, room := range []int{1, 2, 8} {
		in, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		s, ok := aggregate(in).(*groSocket)
		if !ok {
			t.Fatal("the kernel has no UDP_GRO")
		}
		out, err := net.DialUDP("udp4", nil, in.LocalAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		var sent [][]byte
		send := func(size uint16, sizes ...int) {
			var all []byte
			for _, n := range sizes {
				one := bytes.Repeat([]byte{byte('a' + len(sent))}, n)
				sent, all = append(sent, one), append(all, one...)
			}
			if _, _, err := out.WriteMsgUDP(all, segmented(size), nil); err != nil {
				t.Fatal(err)
			}
		}
		send(1000, 1000, 1000, 1000, 1000, 500)
		send(1200, 1200)
		send(700, 700, 700)
		ms := make([]ipv4.Message, room)
		for i := range ms {
			ms[i].Buffers, ms[i].OOB = [][]byte{make([]byte, 1452)}, make([]byte, groOOB)
		}
		in.SetReadDeadline(time.Now().Add(5 * time.Second))
		for got := 0; got < len(sent); {
			n, err := s.ReadBatch(ms, 0)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 || n > room {
				t.Fatalf("%d datagrams in room for %d", n, room)
			}
			for _, m := range ms[:n] {
				if !bytes.Equal(m.Buffers[0][:m.N], sent[got]) {
					t.Fatalf("datagram %d has %d bytes that begin with %q; %d were sent", got, m.N, m.Buffers[0][:1], len(sent[got]))
				}
				if m.Addr.String() != out.LocalAddr().String() {
					t.Errorf("datagram %d comes from %v", got, m.Addr)
				}
				got++
			}
		}
	}
}

// BenchmarkDatagrams gives away the datagrams of one long read.
func BenchmarkDatagrams(b *testing.B) {
	split := longRead()
	b.SetBytes(longSize)
	b.ReportAllocs()
	for b.Loop() {
		split()
	}
}

func TestDatagramsAllocs(t *testing.T) { measure.Allocs(t, 0, longRead()) }

const longSize = 44 * 1452

// longRead is a function that splits a read that has brought many datagrams.
func longRead() (split func()) {
	from := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4433}
	read := ipv4.Message{Buffers: [][]byte{make([]byte, longSize)}, N: longSize, OOB: aggregated(1452), Addr: from}
	read.NN = len(read.OOB)
	s := &groSocket{msgs: []ipv4.Message{read}}
	s.pace.follow(addrPort(from), func() uint64 { return 1 << 60 })
	ms := make([]ipv4.Message, 8)
	for i := range ms {
		ms[i].Buffers, ms[i].OOB = [][]byte{make([]byte, 1452)}, make([]byte, groOOB)
	}
	return func() {
		s.left = s.msgs
		for s.begin(); len(s.left) > 0; {
			s.ReadBatch(ms, 0)
		}
	}
}

// segmented asks the kernel to cut what is sent into datagrams of a size.
func segmented(size uint16) []byte {
	b := control(unix.UDP_SEGMENT, 2)
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], size)
	return b
}

// aggregated is how the kernel says that what was read are datagrams of a size.
func aggregated(size uint32) []byte {
	b := control(unix.UDP_GRO, 4)
	binary.NativeEndian.PutUint32(b[unix.CmsgLen(0):], size)
	return b
}

// control is an empty control message of UDP.
func control(kind int32, size int) []byte {
	b := make([]byte, unix.CmsgSpace(size))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.IPPROTO_UDP, kind
	h.SetLen(unix.CmsgLen(size))
	return b
}

// TestDatagramSize: control messages that say nothing of a size, or nonsense, leave what was read in one piece.
func TestDatagramSize(t *testing.T) {
	for _, oob := range [][]byte{nil, {1}, make([]byte, 24), segmented(100)} {
		if size := datagramSize(oob, 900); size != 900 {
			t.Errorf("%x makes datagrams of %d bytes", oob, size)
		}
	}
	if size := datagramSize(nil, 0); size != 1 {
		t.Errorf("an empty datagram has a size of %d", size)
	}
}
