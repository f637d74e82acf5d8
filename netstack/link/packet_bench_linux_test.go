package link

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sallyport/tests/measure"
)

// BenchmarkPacket passes packets from one packet link to another, by a pair of sockets where the NIC would be.
func BenchmarkPacket(b *testing.B) { benchmarkLink(b, joinedPackets) }

func TestPacketAllocs(t *testing.T) {
	near, far := joinedPackets(t)
	w := newWay(t, near, far, manySegments)
	measure.Allocs(t, 0, func() { w.pass(t, 1) })
}

// joinedPackets are two packet links of which each sends what the other receives.
func joinedPackets(t testing.TB) (near, far Link) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]Link
	for i, fd := range fds {
		if ends[i], err = Packet([]*os.File{os.NewFile(uintptr(fd), "packets")}, Options{MAC: []byte{2, 0, 0, 0, 0, byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	return ends[0], ends[1]
}

// TestPacketQueues: what a link sends goes by the queue of its connection, and it receives by all of them.
func TestPacketQueues(t *testing.T) {
	var queues, peers []*os.File
	for range 3 {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		queues = append(queues, os.NewFile(uintptr(fds[0]), "queue"))
		peers = append(peers, os.NewFile(uintptr(fds[1]), "peer"))
	}
	l, err := Packet(queues, Options{MAC: []byte{2, 0, 0, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	arrived := arrivals{measure.NewTally()}
	l.Attach(arrived)
	defer l.Wait()
	defer l.Close()
	b := make([]byte, 4<<10)
	for hash := range uint32(7) {
		pkt := tcpPacket(true, []byte("hello"), 1460)
		pkt.Hash = hash
		l.AddHeader(pkt)
		var list stack.PacketBufferList
		list.PushBack(pkt)
		if n, err := l.WritePackets(list); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		list.Reset()
		if n, err := peers[hash%3].Read(b); err != nil || n < vnetSize+header.EthernetMinimumSize {
			t.Fatalf("hash %d: %d bytes, %v", hash, n, err)
		}
	}
	frame := make([]byte, vnetSize+header.EthernetMinimumSize+60)
	frame[0] = 2 // VIRTIO_NET_HDR_F_DATA_VALID
	copy(frame[vnetSize:], []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0})
	for _, p := range peers {
		if _, err := p.Write(frame); err != nil {
			t.Fatal(err)
		}
	}
	arrived.Await(len(peers))
}
