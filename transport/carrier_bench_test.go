//go:build unix

package transport_test

import (
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport/frame"
)

// frameSize is what a flow writes at once while it moves much.
const frameSize = 64 << 10

// BenchmarkBulk moves frames over a carrier on loopback. Both ends and their crypto are in this process: cpu-s/GiB is
// what they cost together.
func BenchmarkBulk(b *testing.B) {
	for _, mode := range modes {
		for _, way := range []string{"up", "down"} {
			b.Run(string(mode)+"/"+way, func(b *testing.B) {
				s := start(b)
				session, err := s.client(mode).Dial(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				defer session.Close()
				near, err := session.Carrier(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				defer near.Close()
				near.Write([]byte{0}) // a QUIC stream is known to its peer from its first byte on
				far := <-s.carriers
				defer far.Close()
				io.ReadFull(far, make([]byte, 1))
				var from, to frame.Carrier = near, far
				if way == "down" {
					from, to = far, near
				}
				move(b, from, to)
			})
		}
	}
}

func move(b *testing.B, from io.Writer, to io.Reader) {
	b.SetBytes(frameSize)
	b.ReportAllocs()
	out, in := make([]byte, frameSize), make([]byte, frameSize)
	begin := cpuTime(b)
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
	b.ReportMetric((cpuTime(b)-begin)/(float64(b.N)*frameSize/(1<<30)), "cpu-s/GiB")
}

// cpuTime is what this process has used, in seconds.
func cpuTime(b *testing.B) float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
