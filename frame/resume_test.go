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

var _ = bytes.Equal
