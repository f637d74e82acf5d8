package netstack

import (
	"net"
	"testing"

	"sallyport/tests/measure"
)

// BenchmarkTransfer moves bytes between the stack and a kernel over a veth pair. cpu-s/GiB is what both cost together,
// KiB/frame how large the stack's frames were on average.
func BenchmarkTransfer(b *testing.B) {
	const piece = 45 * 1448
	for _, way := range []string{"up", "down"} {
		b.Run(way, func(b *testing.B) {
			l := newLab(b)
			s := l.stack(b, nil)
			ln := l.listen(b, net.JoinHostPort(peer4, "5000"))
			c, err := s.DialContext(b.Context(), "tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			k, err := ln.Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer k.Close()
			var from, to net.Conn = c, k
			if way == "down" {
				from, to = k, c
			}
			before := s.Stats().Link
			measure.Move(b, from, to, piece)
			after := s.Stats().Link
			moved := float64(b.N) * piece
			b.ReportMetric(moved/1024/float64(max(1, after.TxFrames-before.TxFrames)), "KiB/frame-out")
			b.ReportMetric(moved/1024/float64(max(1, after.RxFrames-before.RxFrames)), "KiB/frame-in")
		})
	}
}
