package netstack

import (
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
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
			out, in := make([]byte, piece), make([]byte, piece)
			b.SetBytes(piece)
			before, cpu := s.Stats().Link, cpuTime(b)
			b.ResetTimer()
			go func() {
				for range b.N {
					if _, err := from.Write(out); err != nil {
						b.Error(err)
						return
					}
				}
			}()
			for range b.N {
				if _, err := io.ReadFull(to, in); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			after := s.Stats().Link
			moved := float64(b.N) * piece
			b.ReportMetric((cpuTime(b)-cpu)/(moved/(1<<30)), "cpu-s/GiB")
			b.ReportMetric(moved/1024/float64(max(1, after.TxFrames-before.TxFrames)), "KiB/frame-out")
			b.ReportMetric(moved/1024/float64(max(1, after.RxFrames-before.RxFrames)), "KiB/frame-in")
		})
	}
}

// cpuTime is what this process has used, in seconds.
func cpuTime(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
