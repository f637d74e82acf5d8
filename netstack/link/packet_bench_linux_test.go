package link

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

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
		if ends[i], err = Packet(os.NewFile(uintptr(fd), "packets"), Options{MAC: []byte{2, 0, 0, 0, 0, byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	return ends[0], ends[1]
}
