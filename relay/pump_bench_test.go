package relay_test

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"

	"sallyport/frame"
	"sallyport/relay"
	"sallyport/tests/measure"
)

// fullFrame is what a frame holds of a flow that moves much.
const fullFrame = 45 * 1448

// BenchmarkPump relays between a stream, whose carrier is in memory, and a conn: one that costs nothing, a kernel's socket,
// and one that can only block.
func BenchmarkPump(b *testing.B) {
	b.Run("memory/up", func(b *testing.B) { b.SetBytes(fullFrame); through(b, b.N*fullFrame, 0) })
	b.Run("memory/down", func(b *testing.B) { b.SetBytes(fullFrame); through(b, 0, b.N*fullFrame) })
	for _, name := range []string{"socket", "joined"} {
		b.Run(name+"/up", func(b *testing.B) {
			client, target := relayed(b, name)
			measure.Move(b, client, target, fullFrame)
		})
		b.Run(name+"/down", func(b *testing.B) {
			client, target := relayed(b, name)
			measure.Move(b, target, client, fullFrame)
		})
	}
}

// through relays so many bytes each way.
func through(b *testing.B, up, down int) {
	client, near := flow(b)
	defer client.Close()
	b.ReportAllocs()
	b.ResetTimer()
	var ends sync.WaitGroup
	defer ends.Wait()
	ends.Go(func() { pump(b, near, up, down) })
	ends.Go(func() {
		for p := make([]byte, fullFrame); up > 0; up -= len(p) {
			client.Write(p)
		}
		client.CloseWrite()
	})
	p := make([]byte, fullFrame)
	for _, err := client.Read(p); err == nil; _, err = client.Read(p) {
	}
}

// relayed is a client's stream and what its bytes come out of, as long as the benchmark lasts.
func relayed(b *testing.B, kind string) (client *frame.Stream, target net.Conn) {
	client, near := flow(b)
	far, target := conns[kind](b)
	ctx, cancel := context.WithCancel(context.Background())
	var relaying sync.WaitGroup
	relaying.Go(func() {
		relay.Pump(ctx, near, relay.Wrap(far), relay.Options{})
		near.Reset(frame.Reason{Code: frame.Closed, Sentence: "over"})
	})
	b.Cleanup(func() {
		cancel()
		far.Close()
		target.Close()
		client.Close()
		relaying.Wait()
	})
	return client, target
}

// TestPumpAllocs: what a relay allocates does not depend on how much it moves.
func TestPumpAllocs(t *testing.T) {
	s := &lender{buf: make([]byte, fullFrame)}
	relayed := func(bytes int) func() {
		return func() {
			s.frames = bytes / fullFrame
			pump(t, s, bytes, bytes)
		}
	}
	none := testing.AllocsPerRun(100, relayed(0))
	measure.Allocs(t, none, relayed(1000*fullFrame))
}

// pump relays between a stream and a conn that gives down bytes, and fails t if it has not taken up bytes at the end.
func pump(t testing.TB, s relay.Stream, up, down int) {
	r := relay.Pump(context.Background(), s, &free{down}, relay.Options{})
	if r.Err != nil || r.Up != int64(up) || r.Down != int64(down) {
		t.Errorf("%+v, want %d up and %d down", r, up, down)
	}
}

// free is a conn that has a number of bytes to be read, whatever they are, and takes all that come.
type free struct{ left int }

func (f *free) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), f.left)
	f.left -= n
	return n, nil
}

func (f *free) WaitReadable(context.Context, func()) (bool, error) { return true, nil }
func (f *free) Buffered() int                                      { return f.left }
func (f *free) Take(p []byte) (int, error)                         { return len(p), nil }
func (f *free) WaitWritable(context.Context) error                 { return nil }
func (f *free) CloseWrite() error                                  { return nil }
func (f *free) Close() error                                       { return nil }
