package transport_test

import (
	"io"
	"testing"

	"sallyport/frame"
	"sallyport/tests/measure"
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
				measure.Move(b, from, to, frameSize)
			})
		}
	}
}
