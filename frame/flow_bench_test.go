package frame_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"sallyport/frame"
	"sallyport/frame/frametest"
	"sallyport/tests/measure"
)

// fullFrame is what a frame holds of a flow that moves much.
const fullFrame = 45 * 1448

// BenchmarkFlow moves bytes through two streams that a carrier in memory joins: many one way, or one there and back.
func BenchmarkFlow(b *testing.B) {
	b.Run("bulk", func(b *testing.B) {
		f := newFlow(b, false)
		b.SetBytes(fullFrame)
		b.ReportAllocs()
		b.ResetTimer()
		for range b.N {
			f.send(b, fullFrame)
		}
		f.far.Await(b.N * fullFrame)
	})
	b.Run("1-byte", func(b *testing.B) {
		f := newFlow(b, true)
		b.ReportAllocs()
		for b.Loop() {
			f.send(b, 1)
			f.near.Await(1)
		}
	})
}

// TestFlowAllocs: a flow in use costs no memory of its own, at either end, whatever the sizes. Only a PING
// does: it is asked for rarely, and waits in memory that no idle flow has.
func TestFlowAllocs(t *testing.T) {
	t.Run("1-byte", func(t *testing.T) {
		f := newFlow(t, true)
		measure.Allocs(t, 0, func() {
			f.send(t, 1)
			f.near.Await(1)
		})
	})
	for _, size := range []int{1000, 30000, fullFrame, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			f := newFlow(t, false)
			measure.Allocs(t, 0, func() {
				f.send(t, size)
				f.far.Await(size)
			})
		})
	}
	t.Run("PING", func(t *testing.T) {
		f := newFlow(t, false)
		measure.Allocs(t, 2, func() {
			for f.client.Probe(); f.client.Vitals().Unanswered > 0; {
				runtime.Gosched()
			}
		})
	})
}

// A flow is one whose ends both receive, until the test is over.
type flow struct {
	client    *frame.Stream
	near, far *hop // of what the client receives, and the appliance
}

// newFlow opens a flow. If it echoes, the appliance sends back what it receives.
func newFlow(t testing.TB, echoes bool) *flow {
	client, appliance := frametest.Flow(t, pipe)
	f := &flow{client, newHop(), newHop()}
	if echoes {
		f.far.back = appliance
	}
	var receivers sync.WaitGroup
	receivers.Go(func() { client.Deliver(context.Background(), f.near) })
	receivers.Go(func() { appliance.Deliver(context.Background(), f.far) })
	t.Cleanup(func() {
		client.Close()
		appliance.Close()
		receivers.Wait()
	})
	return f
}

// send sends n bytes from the client as a relay does, by what the stream lends.
func (f *flow) send(t testing.TB, n int) {
	for n > 0 {
		p, err := f.client.Reserve(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		k := min(n, len(p))
		if err := f.client.Commit(k); err != nil {
			t.Fatal(err)
		}
		n -= k
	}
}

// A hop takes everything, and may send as much back.
type hop struct {
	*measure.Tally
	back *frame.Stream // may be nil
}

func newHop() *hop { return &hop{Tally: measure.NewTally()} }

func (h *hop) Take(p []byte) (int, error) {
	h.Add(len(p))
	if h.back != nil {
		return h.back.Write(p)
	}
	return len(p), nil
}

func (h *hop) WaitWritable(ctx context.Context) error { return ctx.Err() }
func (h *hop) CloseWrite() error                      { return nil }
