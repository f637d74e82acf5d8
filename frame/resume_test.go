package frame_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/frame"
	"sallyport/frame/frametest"
)

// TestResumeBulk: bulk both ways over carriers that are cut again and again arrives whole, and the ends are told once.
func TestResumeBulk(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 30))
			g := frame.NewGovernor(16 << 20)
			b := &frametest.Broker{T: t, Buffer: []int{100, 5000, 64 << 10}[seed%3], Client: frame.Options{Governor: g}, Appliance: frame.Options{Governor: g}}
			client, appliance := b.Open()
			var wg sync.WaitGroup
			for i, way := range []struct{ from, to *frame.Stream }{{client, appliance}, {appliance, client}} {
				size := int64(1<<20 + r.IntN(1000))
				sums := make(chan [32]byte, 2)
				wg.Go(func() {
					h := sha256.New()
					paced := &paced{rand.NewChaCha8([32]byte{byte(seed), byte(i)}), rand.New(rand.NewPCG(seed, uint64(i)))}
					if _, err := io.Copy(io.MultiWriter(way.from, h), io.LimitReader(paced, size)); err != nil {
						t.Errorf("seed %d: send: %v", seed, err)
					}
					way.from.CloseWrite()
					sums <- [32]byte(h.Sum(nil))
				})
				wg.Go(func() {
					h := sha256.New()
					if n, err := io.Copy(h, way.to); n != size || err != nil {
						t.Errorf("seed %d, way %d: %d bytes of %d, %v", seed, i, n, size, err)
					}
					sums <- [32]byte(h.Sum(nil))
					if x, y := <-sums, <-sums; x != y {
						t.Errorf("seed %d, way %d: the bytes differ", seed, i)
					}
				})
			}
			resumed := 0
			held := make(chan struct{})
			go func() {
				defer close(held)
				resumed = b.Hold(t.Context(), client)
			}()
			ctx, cancel := context.WithCancel(t.Context())
			var cutter sync.WaitGroup
			cutter.Go(func() {
				for ctx.Err() == nil {
					time.Sleep(time.Duration(1+r.IntN(20)) * time.Millisecond)
					b.Cut()
				}
			})
			wg.Wait()
			cancel()
			cutter.Wait()
			client.Close()
			<-held
			appliance.Close()
			b.Wait()
			if resumed < 3 || b.Forks() > 0 {
				t.Errorf("seed %d: resumed %d times, %d alarms", seed, resumed, b.Forks())
			}
			time.Sleep(time.Minute)
			if g.Free() != 16<<20 {
				t.Errorf("seed %d: the governor has %d", seed, g.Free())
			}
			t.Logf("seed %d: resumed %d times", seed, resumed)
		})
		if t.Failed() {
			return
		}
	}
}

// paced gives bytes in pieces with pauses between them.
type paced struct {
	src io.Reader
	r   *rand.Rand
}

func (p *paced) Read(b []byte) (int, error) {
	if p.r.IntN(2) == 0 {
		time.Sleep(time.Duration(p.r.IntN(5)) * time.Millisecond)
	}
	return p.src.Read(b[:1+p.r.IntN(min(len(b), 9000))])
}

// TestEndOfOneDirection: that nothing more comes arrives once, after the last byte, though the carrier is cut fifty times
// before, at and after that; the other direction goes on.
func TestEndOfOneDirection(t *testing.T) {
	const cuts = 50
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 50))
			b := &frametest.Broker{T: t, Buffer: []int{100, 5000, 64 << 10}[seed%3]}
			client, appliance := b.Open()
			size, begin := 1+r.IntN(100_000), time.Duration(r.IntN(300))*time.Millisecond
			end := &ending{}
			var wg sync.WaitGroup
			var kept sync.WaitGroup
			kept.Go(func() { appliance.Deliver(t.Context(), end) })
			kept.Go(func() { b.Hold(t.Context(), client) })
			var heard bytes.Buffer
			wg.Go(func() { io.Copy(&heard, client) })
			wg.Go(func() {
				time.Sleep(begin)
				client.Write(make([]byte, size))
				client.CloseWrite()
			})
			for i := range cuts {
				if room, err := appliance.Reserve(t.Context()); err != nil || len(room) == 0 {
					t.Fatal(err)
				} else if room[0] = byte(i); appliance.Commit(1) != nil {
					t.Fatal("the flow has ended")
				}
				time.Sleep(time.Duration(1+r.IntN(20)) * time.Millisecond)
				b.Cut()
			}
			appliance.CloseWrite()
			wg.Wait()
			client.Close()
			kept.Wait()
			b.Wait()
			if end.taken != size || end.ends != 1 || end.after != size {
				t.Errorf("seed %d: of %d bytes %d came; the end %d times, after %d", seed, size, end.taken, end.ends, end.after)
			}
			if heard.Len() != cuts {
				t.Errorf("seed %d: the other direction brought %d of %d", seed, heard.Len(), cuts)
			}
		})
	}
}

// An ending is a next hop that notes where the end came.
type ending struct{ taken, ends, after int }

func (e *ending) Take(p []byte) (int, error) {
	n := min(len(p), 1000)
	e.taken += n
	return n, nil
}

func (e *ending) WaitWritable(context.Context) error { return nil }

func (e *ending) CloseWrite() error {
	e.ends++
	e.after = e.taken
	return nil
}
