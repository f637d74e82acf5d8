package frame_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/frame"
	"sallyport/frame/frametest"
)

var soakFlows = flag.Int("soak", 20, "how many flows TestSoak runs")

// TestSoak lets everything happen at once: both ends write and read, fast and slowly, and end in every way while the
// other is at work. Whatever happens: what arrives is a prefix of what was sent, all of it if the flow ended in order;
// nothing hangs, and nothing is kept.
func TestSoak(t *testing.T) {
	flows := *soakFlows
	base := rand.Uint64()
	t.Logf("seeds from %d", base)
	for i := range flows {
		synctest.Test(t, func(t *testing.T) { soak(t, base+uint64(i)) })
		if t.Failed() {
			return
		}
	}
}

// An end is one side of a flow in a soak.
type end struct {
	s       *frame.Stream
	r       *rand.Rand
	cancel  context.CancelCauseFunc
	wrote   []byte // committed
	took    slow
	inOrder bool
	closed  bool // by its own Close, which may come between the last byte and FIN
}

// slow is a next hop with moods.
type slow struct {
	r     *rand.Rand
	got   bytes.Buffer
	stuck bool
	ended bool
}

func (k *slow) Take(p []byte) (int, error) {
	if k.stuck || k.r.IntN(4) == 0 {
		return 0, nil
	}
	return k.got.Write(p[:1+k.r.IntN(len(p))])
}

func (k *slow) WaitWritable(ctx context.Context) error {
	if k.stuck {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	time.Sleep(time.Duration(k.r.IntN(10)) * time.Millisecond)
	return ctx.Err()
}

func (k *slow) CloseWrite() error {
	k.ended = true
	return nil
}

var errEnough = errors.New("enough")

func soak(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 21))
	g := frame.NewGovernor([]int64{0, 100 << 10, 4 << 20}[r.IntN(3)])
	room := g.Free()
	a, b := frametest.Pipe([]int{20, 500, 5000, 64 << 10}[r.IntN(4)])
	ends := [2]*end{}
	var wg sync.WaitGroup
	wg.Go(func() {
		in, err := frame.Accept(t.Context(), b, frame.Options{Governor: g})
		if err != nil {
			t.Error(err)
			return
		}
		ends[1] = &end{s: in.Accept(frame.Opened{Flow: make([]byte, 16), Session: make([]byte, 16)})}
	})
	s, _, err := frame.Open(t.Context(), a, frame.OpenRequest{Target: "db-1", Protocol: "ssh"}, frame.Options{Governor: g})
	if err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	ends[0] = &end{s: s}
	rude := r.IntN(2) == 0
	for x, e := range ends {
		e.r = rand.New(rand.NewPCG(seed, uint64(x)))
		e.took = slow{r: rand.New(rand.NewPCG(seed, uint64(x+2))), stuck: rude && r.IntN(4) == 0}
		ctx, cancel := context.WithCancelCause(t.Context())
		e.cancel = cancel
		defer cancel(nil)
		wg.Go(func() {
			err := e.s.Deliver(ctx, &e.took)
			if e.inOrder = err == nil; errors.Is(err, errEnough) {
				e.s.Reset(frame.Reason{Code: "E_IDLE"})
			}
		})
		wg.Go(func() { e.write(ctx, e.r.IntN(200<<10)) })
		if rude {
			wg.Go(func() { e.beRude(rand.New(rand.NewPCG(seed, uint64(x+4)))) })
		}
	}
	wg.Wait()
	time.Sleep(time.Minute)
	synctest.Wait()

	for x, e := range ends {
		peer := ends[1-x]
		where := fmt.Sprintf("seed %d, end %d, rude %v", seed, x, rude)
		if !bytes.HasPrefix(peer.wrote, e.took.got.Bytes()) {
			t.Errorf("%s: what arrived is not what was sent", where)
		}
		all := e.took.ended && e.took.got.Len() == len(peer.wrote)
		if e.inOrder && !all && !(e.closed && e.took.got.Len() == len(peer.wrote)) || !rude && !e.inOrder || e.took.ended && !all {
			t.Errorf("%s: in order %v, ended %v, %d bytes of %d", where, e.inOrder, e.took.ended, e.took.got.Len(), len(peer.wrote))
		}
	}
	if g.Free() != room {
		t.Errorf("seed %d: the governor has %d of %d", seed, g.Free(), room)
	}
}

// write sends n bytes in pieces and then CloseWrite.
func (e *end) write(ctx context.Context, n int) {
	for n > 0 {
		if e.r.IntN(5) == 0 {
			time.Sleep(time.Duration(e.r.IntN(30)) * time.Millisecond)
		}
		p, err := e.s.Reserve(ctx)
		if err != nil {
			return
		}
		k := min(n, 1+e.r.IntN(len(p)))
		for i := range p[:k] {
			p[i] = byte(e.r.Uint32())
		}
		e.wrote = append(e.wrote, p[:k]...)
		if e.s.Commit(k) != nil {
			e.wrote = e.wrote[:len(e.wrote)-k]
			return
		}
		n -= k
	}
	e.s.CloseWrite()
}

// beRude ends the flow at any moment, in any way but the good one.
func (e *end) beRude(r *rand.Rand) {
	time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
	switch r.IntN(3) {
	case 0:
		e.closed = true
		e.s.Close()
	case 1:
		e.s.Reset(frame.Reason{Code: "E_REVOKED"})
	case 2:
		e.cancel(errEnough)
	}
}
