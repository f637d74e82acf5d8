package link

import (
	"fmt"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sallyport/tests/measure"
)

// The data of a TCP segment of Ethernet's size, and of a packet that TCP hands down in one piece.
const segment, manySegments = 1448, 45 * 1448

// BenchmarkPipe passes packets through a link in memory.
func BenchmarkPipe(b *testing.B) { benchmarkLink(b, piped) }

func TestPipeAllocs(t *testing.T) {
	near, far := piped(t)
	w := newWay(t, near, far, manySegments)
	measure.Allocs(t, 0, func() { w.pass(t, 1) })
}

func piped(testing.TB) (near, far Link) { return Pipe(PipeOptions{}) }

// benchmarkLink passes packets of two sizes from one link to another.
func benchmarkLink(b *testing.B, join func(testing.TB) (near, far Link)) {
	for _, size := range []int{segment, manySegments} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			near, far := join(b)
			w := newWay(b, near, far, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			const most = 64 // on their way
			for left := b.N; left > 0; left -= most {
				w.pass(b, min(left, most))
			}
		})
	}
}

// BenchmarkSegments cuts a packet, as is done for a tunnel.
func BenchmarkSegments(b *testing.B) {
	pkt := tcpPacket(true, make([]byte, manySegments), segment)
	defer pkt.DecRef()
	p := make([]byte, wireGuardMTU)
	b.SetBytes(manySegments)
	b.ReportAllocs()
	for b.Loop() {
		s := newSegments(pkt.IncRef(), wireGuardMTU)
		for s.next(p) > 0 {
		}
		s.release()
	}
}

// A way leads from one link to another, and ends with the test.
type way struct {
	near    Link
	packets stack.PacketBufferList // one, again and again
	arrived arrivals
}

func newWay(t testing.TB, near, far Link, size int) *way {
	w := &way{near: near, arrived: arrivals{measure.NewTally()}}
	pkt := tcpPacket(true, make([]byte, size), segment)
	pkt.EgressRoute.LocalLinkAddress, pkt.EgressRoute.RemoteLinkAddress = near.LinkAddress(), far.LinkAddress()
	near.AddHeader(pkt)
	w.packets.PushBack(pkt)
	far.Attach(w.arrived)
	t.Cleanup(func() {
		near.Close()
		far.Close()
		far.Wait()
		pkt.DecRef()
	})
	return w
}

// pass sends n packets and waits until they have arrived.
func (w *way) pass(t testing.TB, n int) {
	for range n {
		if _, err := w.near.WritePackets(w.packets); err != nil {
			t.Fatal(err)
		}
	}
	w.arrived.Await(n)
}

// arrivals is the stack at the far end, which only counts.
type arrivals struct{ *measure.Tally }

func (a arrivals) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) { a.Add(1) }
func (a arrivals) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)    {}
