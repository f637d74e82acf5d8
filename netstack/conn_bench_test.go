package netstack

import (
	"io"
	"sync"
	"testing"

	"sallyport/tests/measure"
)

// BenchmarkConn is a TCP connection of two stacks that a link in memory joins: bulk one way, or a byte there and back.
func BenchmarkConn(b *testing.B) {
	const piece = 45 * 1448
	near, far := pair(b)
	l := listen(b, far)
	b.Run("bulk", func(b *testing.B) {
		from, to := connect(b, near, l, "10.9.0.2:7")
		measure.Move(b, from, to, piece)
	})
	b.Run("1-byte", func(b *testing.B) {
		c, echo := connect(b, near, l, "10.9.0.2:7")
		var echoing sync.WaitGroup
		echoing.Go(func() { io.Copy(echo, struct{ io.Reader }{echo}) })
		defer echoing.Wait()
		defer c.Close()
		p := make([]byte, 1)
		b.ReportAllocs()
		for b.Loop() {
			c.Write(p)
			if _, err := io.ReadFull(c, p); err != nil {
				b.Fatal(err)
			}
		}
	})
}
