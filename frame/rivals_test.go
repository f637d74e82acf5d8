package frame_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/frame"
	"sallyport/frame/frametest"
)

// A counted stream's byte at offset n is countedAt(n): so it can be checked wherever it arrives.
func countedAt(n int64) byte { return byte(n ^ n>>8 ^ n>>16) }

// A checker is a next hop that takes only what is right.
type checker struct {
	n     atomic.Int64
	ended atomic.Int64 // offset of the end, plus one
}

func (k *checker) Take(p []byte) (int, error) {
	n := k.n.Load()
	for i, b := range p {
		if b != countedAt(n+int64(i)) || k.ended.Load() > 0 {
			return 0, fmt.Errorf("the byte at %d is wrong, or comes after the end", n+int64(i))
		}
	}
	k.n.Add(int64(len(p)))
	return len(p), nil
}
func (k *checker) WaitWritable(ctx context.Context) error { return ctx.Err() }
func (k *checker) CloseWrite() error {
	if !k.ended.CompareAndSwap(0, k.n.Load()+1) {
		return errors.New("a second end")
	}
	return nil
}

// count writes counted bytes in pieces of up to most, with pauses, until ctx ends, and then CloseWrite. It returns how many.
func count(ctx context.Context, s *frame.Stream, r *rand.Rand, most int, pause time.Duration) (sent int64) {
	p := make([]byte, most)
	for ctx.Err() == nil {
		piece := p[:1+r.IntN(most)]
		for i := range piece {
			piece[i] = countedAt(sent + int64(i))
		}
		n, err := s.Write(piece)
		if sent += int64(n); err != nil {
			return sent
		}
		time.Sleep(time.Duration(r.Int64N(int64(pause))))
	}
	s.CloseWrite()
	return sent
}

// A fate is what a network does to the carrier of one attempt.
type fate struct {
	there, back time.Duration // how long a write takes
	lose        string        // "RESUMED", "confirm", or "answer": all that comes after the confirming ACK
	late        time.Duration // the client hangs up, and its RESUME still arrives so much later
}

// A wire does so, as the client's end of a carrier.
type wire struct {
	*frametest.PipeCarrier
	f    *fate
	sent atomic.Int32
}

func (w *wire) Write(p []byte) (int, error) {
	n := w.sent.Add(1)
	switch {
	case w.f.late > 0:
		b := bytes.Clone(p)
		time.AfterFunc(w.f.late, func() { w.PipeCarrier.Write(b) })
		return len(p), nil
	case n == 2 && w.f.lose == "confirm":
		w.Break()
		return len(p), nil
	}
	time.Sleep(w.f.there)
	k, err := w.PipeCarrier.Write(p)
	if n == 2 && w.f.lose == "answer" {
		time.Sleep(w.f.back / 2)
		w.Break()
	}
	return k, err
}

func (w *wire) Close() error {
	if w.f.late > 0 {
		time.AfterFunc(2*w.f.late, func() { w.PipeCarrier.Close() })
		return nil
	}
	return w.PipeCarrier.Close()
}

// A wireBack is the appliance's end.
type wireBack struct {
	*frametest.PipeCarrier
	f *fate
}

func (w *wireBack) Write(p []byte) (int, error) {
	if w.f.lose == "RESUMED" {
		w.Break()
		return len(p), nil
	}
	time.Sleep(w.f.back)
	return w.PipeCarrier.Write(p)
}

// TestRivals lets two or three carriers attach at once, ten thousand times, over networks that delay and lose what they say:
// one of them has the flow in the end, the others are told or lost, nothing is an alarm, and every byte arrives once.
func TestRivals(t *testing.T) {
	const flows, rounds = 100, 100
	base := rand.Uint64()
	t.Logf("seeds from %d", base)
	total := map[string]int{}
	for i := range flows {
		synctest.Test(t, func(t *testing.T) { rivals(t, base+uint64(i), rounds, total) })
		if t.Failed() {
			return
		}
	}
	t.Logf("%v", total)
	if total["superseded"] == 0 || total["won"] < flows*rounds/2 {
		t.Error("that was no race")
	}
}

func rivals(t *testing.T, seed uint64, rounds int, total map[string]int) {
	r := rand.New(rand.NewPCG(seed, 32))
	g := frame.NewGovernor(16 << 20)
	o := frame.Options{Governor: g}
	var next atomic.Pointer[fate]
	b := &frametest.Broker{T: t, Buffer: 8 << 10, Client: o, Appliance: o, Wrap: func(c, a *frametest.PipeCarrier) (frame.Carrier, frame.Carrier) {
		f := next.Swap(nil)
		if f == nil {
			f = new(fate)
		}
		return &wire{PipeCarrier: c, f: f}, &wireBack{a, f}
	}}
	client, appliance := b.Open()
	var atClient, atAppliance checker
	var work sync.WaitGroup
	work.Go(func() {
		if err := client.Deliver(context.Background(), &atClient); err != nil {
			t.Errorf("seed %d: the client's end: %v", seed, err)
		}
	})
	work.Go(func() {
		if err := appliance.Deliver(context.Background(), &atAppliance); err != nil {
			t.Errorf("seed %d: the appliance's end: %v", seed, err)
		}
	})
	synctest.Wait()
	ctx, stop := context.WithCancel(context.Background())
	var sentUp, sentDown int64
	work.Go(func() { sentUp = count(ctx, client, rand.New(rand.NewPCG(seed, 1)), 2000, 20*time.Millisecond) })
	work.Go(func() { sentDown = count(ctx, appliance, rand.New(rand.NewPCG(seed, 2)), 2000, 20*time.Millisecond) })

	var mu sync.Mutex
	note := func(what string) {
		mu.Lock()
		defer mu.Unlock()
		total[what]++
	}
	for range rounds {
		if r.IntN(4) == 0 {
			b.Cut()
			synctest.Wait()
		}
		var race sync.WaitGroup
		for range 2 + r.IntN(2) {
			f := &fate{there: time.Duration(r.IntN(3)) * time.Millisecond, back: time.Duration(r.IntN(3)) * time.Millisecond}
			patience := time.Second
			switch r.IntN(12) {
			case 0:
				f.lose = "RESUMED"
			case 1:
				f.lose = "confirm"
			case 2:
				f.lose = "answer"
			case 3:
				f.late = time.Duration(1+r.IntN(60)) * time.Millisecond
				patience = min(f.late-1, 5*time.Millisecond)
			case 4:
				patience = time.Duration(r.IntN(8)) * time.Millisecond
			}
			next.Store(f)
			c, bond := b.Offer()
			wait := time.Duration(r.IntN(3)) * time.Millisecond
			race.Go(func() {
				time.Sleep(wait)
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				err := client.Resume(ctx, c, bond, frame.WhyLost)
				var told *frame.StreamError
				switch {
				case err == nil:
					note("won")
				case errors.Is(err, frame.ErrSuperseded):
					note("superseded")
				case errors.As(err, &told) && told.Remote:
					t.Errorf("seed %d: the appliance refuses: %v", seed, err)
				case errors.Is(err, context.DeadlineExceeded):
					note("given up")
				default:
					note("lost")
				}
			})
		}
		race.Wait()
		time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond) // for what comes late
		for try := 0; client.Vitals().Lost != nil; try++ {
			c, bond := b.Offer()
			err := client.Resume(context.Background(), c, bond, frame.WhyLost)
			var told *frame.StreamError
			if errors.As(err, &told) && told.Remote || try > 9 {
				t.Errorf("seed %d, try %d: %v", seed, try, err)
				break
			}
			note("again")
			time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond)
		}
		if t.Failed() || client.Vitals().End != nil || appliance.Vitals().End != nil {
			t.Errorf("seed %d: %+v, %+v", seed, client.Vitals(), appliance.Vitals())
			break
		}
	}
	go func() {
		for {
			if _, end := client.Detached(context.Background()); end != nil {
				return
			}
			c, bond := b.Offer()
			client.Resume(context.Background(), c, bond, frame.WhyLost)
		}
	}()
	stop()
	work.Wait()
	b.Wait()
	if atAppliance.n.Load() != sentUp || atClient.n.Load() != sentDown || atAppliance.ended.Load() != sentUp+1 || atClient.ended.Load() != sentDown+1 {
		t.Errorf("seed %d: %d of %d up, %d of %d down", seed, atAppliance.n.Load(), sentUp, atClient.n.Load(), sentDown)
	}
	if b.Forks() > 0 || g.Free() != 16<<20 {
		t.Errorf("seed %d: %d alarms, the governor has %d", seed, b.Forks(), g.Free())
	}
	time.Sleep(time.Minute)
}

// TestMakeBeforeBreak moves bulk both ways from one living carrier to the next.
func TestMakeBeforeBreak(t *testing.T) {
	const size = 3 << 20
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 33))
			b := &frametest.Broker{T: t, Buffer: []int{300, 5000, 64 << 10}[seed%3]}
			client, appliance := b.Open()
			var work sync.WaitGroup
			for i, way := range []struct{ from, to *frame.Stream }{{client, appliance}, {appliance, client}} {
				sums := make(chan [32]byte, 2)
				work.Go(func() {
					h := sha256.New()
					src := &paced{rand.NewChaCha8([32]byte{byte(seed), byte(i)}), rand.New(rand.NewPCG(seed, uint64(i)))}
					if _, err := io.Copy(io.MultiWriter(way.from, h), io.LimitReader(src, size)); err != nil {
						t.Errorf("seed %d: send: %v", seed, err)
					}
					way.from.CloseWrite()
					sums <- [32]byte(h.Sum(nil))
				})
				work.Go(func() {
					h := sha256.New()
					n, err := io.Copy(h, way.to)
					sums <- [32]byte(h.Sum(nil))
					if x, y := <-sums, <-sums; n != size || err != nil || x != y {
						t.Errorf("seed %d, way %d: %d bytes, %v, equal %v", seed, i, n, err, x == y)
					}
				})
			}
			moved := 0
			for over := false; !over; {
				select {
				case <-client.Done():
					over = true
				case <-time.After(time.Duration(1+r.IntN(30)) * time.Millisecond):
					c, bond := b.Offer()
					if err := client.Resume(t.Context(), c, bond, frame.WhyLost); err == nil {
						moved++
					} else if v := client.Vitals(); v.End == nil && !v.Ending {
						t.Errorf("seed %d: move %d: %v", seed, moved, err)
					}
					if v := client.Vitals(); v.Lost != nil {
						t.Errorf("seed %d: the flow was detached: %v", seed, v.Lost)
						over = true
					}
				}
				if v := client.Vitals(); v.Ending {
					client.Close()
				}
			}
			work.Wait()
			appliance.Close()
			b.Wait()
			if moved < 20 {
				t.Errorf("seed %d: moved only %d times", seed, moved)
			}
			t.Logf("seed %d: moved %d times", seed, moved)
			time.Sleep(time.Minute)
		})
	}
}

// A gate is a next hop that takes nothing until it is opened.
type gate struct {
	checker
	open chan struct{}
}

func (k *gate) Take(p []byte) (int, error) {
	select {
	case <-k.open:
		return k.checker.Take(p)
	default:
		return 0, nil
	}
}

func (k *gate) WaitWritable(ctx context.Context) error {
	select {
	case <-k.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// mostHeld bounds what a flow whose next hop takes nothing from the start holds at either end, a direction: two slabs or so.
const mostHeld = 256 << 10

func checkHeld(t *testing.T, streams ...*frame.Stream) {
	t.Helper()
	for i, s := range streams {
		if replay, spill := s.Holds(); replay > mostHeld || spill > mostHeld {
			t.Errorf("end %d holds %d to be acknowledged and %d to be taken", i, replay, spill)
		}
	}
}

// TestPager: a next hop, at the client or the target, takes nothing for 20 minutes while the other end would send for
// ever. The flow lives, over cuts as well, and holds little.
func TestPager(t *testing.T) {
	for _, at := range []string{"client", "target", "both"} {
		for _, cuts := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				g := frame.NewGovernor(64 << 20)
				o := frame.Options{Governor: g}
				b := &frametest.Broker{T: t, Client: o, Appliance: o}
				client, appliance := b.Open()
				open, shut := make(chan struct{}), make(chan struct{})
				close(open)
				ends := [2]*gate{{open: open}, {open: open}} // at the appliance, at the client
				if at != "client" {
					ends[up].open = shut
				}
				if at != "target" {
					ends[down].open = shut
				}
				var work sync.WaitGroup
				for i, s := range []*frame.Stream{appliance, client} {
					work.Go(func() {
						if err := s.Deliver(context.Background(), ends[i]); err != nil {
							t.Errorf("%s, cuts %v: end %d: %v", at, cuts, i, err)
						}
					})
				}
				synctest.Wait()
				go b.Hold(context.Background(), client)
				ctx, stop := context.WithCancel(context.Background())
				sent := make([]int64, 2)
				for i, s := range []*frame.Stream{client, appliance} {
					if ends[i].open == shut { // who is not slow is sent little
						work.Go(func() { sent[i] = count(ctx, s, rand.New(rand.NewPCG(1, uint64(i))), 60<<10, time.Millisecond) })
					} else {
						work.Go(func() { sent[i] = count(ctx, s, rand.New(rand.NewPCG(1, uint64(i))), 100, time.Minute) })
					}
				}
				for range 40 {
					time.Sleep(30 * time.Second)
					if cuts {
						b.Cut()
						time.Sleep(time.Second)
					}
					client.Probe()
					time.Sleep(time.Second)
					checkHeld(t, client, appliance)
					if v := client.Vitals(); v.End != nil || v.Lost != nil || v.Unanswered > 0 {
						t.Fatalf("%s, cuts %v: %+v", at, cuts, v)
					}
				}
				close(shut)
				stop()
				work.Wait()
				client.Close()
				appliance.Close()
				b.Wait()
				for i := range 2 {
					if ends[i].n.Load() != sent[i] || ends[i].ended.Load() != sent[i]+1 {
						t.Errorf("%s, cuts %v: way %d: %d of %d", at, cuts, i, ends[i].n.Load(), sent[i])
					}
				}
				if g.Free() != 64<<20 {
					t.Errorf("the governor has %d", g.Free())
				}
				time.Sleep(time.Minute)
			})
		}
	}
}

// A moody next hop takes everything, or nothing.
type moody struct {
	checker
	shut atomic.Bool
}

func (k *moody) Take(p []byte) (int, error) {
	if k.shut.Load() {
		return 0, nil
	}
	return k.checker.Take(p)
}

func (k *moody) WaitWritable(ctx context.Context) error {
	for k.shut.Load() && ctx.Err() == nil {
		time.Sleep(time.Second)
	}
	return context.Cause(ctx)
}

// TestPagerAfterBulk: a flow that has grown for bulk holds no more than the room that it has grown to, for 20 minutes.
func TestPagerAfterBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxRoom, maxReplay = 8 << 20, 8<<20 + 64<<10
		g := frame.NewGovernor(64 << 20)
		o := frame.Options{Governor: g}
		b := &frametest.Broker{T: t, Client: o, Appliance: o}
		client, appliance := b.Open()
		k := &moody{}
		var work sync.WaitGroup
		for s, to := range map[*frame.Stream]*moody{client: k, appliance: {}} {
			work.Go(func() {
				if err := s.Deliver(context.Background(), to); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		go b.Hold(context.Background(), client)
		ctx, stop := context.WithCancel(context.Background())
		var sent int64
		work.Go(func() { sent = count(ctx, appliance, rand.New(rand.NewPCG(3, 3)), 60<<10, time.Millisecond) })
		time.Sleep(2 * time.Second)
		k.shut.Store(true)
		before := k.n.Load()
		var most [2]int
		for range 40 {
			time.Sleep(30 * time.Second)
			replay, _ := appliance.Holds()
			_, spill := client.Holds()
			if v := client.Vitals(); replay > maxReplay || spill > 2*maxRoom || v.End != nil || v.Lost != nil || k.n.Load() != before {
				t.Fatalf("holds %d to be acknowledged and %d to be taken; %+v", replay, spill, v)
			}
			most = [2]int{max(most[0], replay), max(most[1], spill)}
			b.Cut() // what was not taken is sent again
			time.Sleep(time.Second)
		}
		t.Logf("held %d KiB to be acknowledged, %d KiB to be taken", most[0]>>10, most[1]>>10)
		k.shut.Store(false)
		stop()
		client.CloseWrite()
		work.Wait()
		if k.n.Load() != sent || k.ended.Load() != sent+1 || before < 16<<20 {
			t.Errorf("%d of %d, %d before", k.n.Load(), sent, before)
		}
		client.Close()
		appliance.Close()
		b.Wait()
		if g.Free() != 64<<20 {
			t.Errorf("the governor has %d", g.Free())
		}
		time.Sleep(time.Minute)
	})
}

// TestNobodyReads: both ends only write. Nothing hangs but the writers, PINGs are answered, carriers change, and once
// somebody reads everything is there.
func TestNobodyReads(t *testing.T) {
	for _, buffer := range []int{100, 64 << 10} {
		synctest.Test(t, func(t *testing.T) {
			b := &frametest.Broker{T: t, Buffer: buffer}
			client, appliance := b.Open()
			var work sync.WaitGroup
			ctx, stop := context.WithCancel(context.Background())
			sent := make([]int64, 2)
			for i, s := range []*frame.Stream{client, appliance} {
				work.Go(func() { sent[i] = count(ctx, s, rand.New(rand.NewPCG(2, uint64(i))), 60<<10, time.Millisecond) })
			}
			go b.Hold(context.Background(), client)
			for i := range 30 {
				time.Sleep(time.Minute)
				for _, s := range []*frame.Stream{client, appliance} {
					s.Probe()
					time.Sleep(time.Second)
					if v := s.Vitals(); v.End != nil || v.Lost != nil || v.Unanswered > 0 || !v.Waiting {
						t.Fatalf("buffer %d, minute %d: %+v", buffer, i, v)
					}
				}
				checkHeld(t, client, appliance)
				if i%3 == 0 {
					b.Cut()
				}
			}
			if client.Vitals().Attached < 10 {
				t.Errorf("attached %d times", client.Vitals().Attached)
			}
			stop()
			var got [2]checker
			for i, s := range []*frame.Stream{appliance, client} {
				work.Go(func() {
					if _, err := io.Copy(taking{&got[i]}, s); err != nil {
						t.Errorf("read: %v", err)
					}
				})
			}
			work.Wait()
			client.Close()
			appliance.Close()
			b.Wait()
			for i := range 2 {
				if got[i].n.Load() != sent[i] {
					t.Errorf("buffer %d, way %d: %d of %d", buffer, i, got[i].n.Load(), sent[i])
				}
			}
			time.Sleep(time.Minute)
		})
	}
}

// TestEndsAtAnyTime ends flows in every way while their carriers are cut, changed and fought over: what arrived is a prefix
// of what was sent, both ends end, and nothing is kept.
func TestEndsAtAnyTime(t *testing.T) {
	const flows = 120
	base := rand.Uint64()
	t.Logf("seeds from %d", base)
	total := map[string]int{}
	for i := range flows {
		synctest.Test(t, func(t *testing.T) { endAtAnyTime(t, base+uint64(i), total) })
		if t.Failed() {
			return
		}
	}
	t.Logf("%v", total)
}

func endAtAnyTime(t *testing.T, seed uint64, total map[string]int) {
	r := rand.New(rand.NewPCG(seed, 34))
	room := []int64{0, 100 << 10, 4 << 20}[r.IntN(3)]
	g := frame.NewGovernor(room)
	o := frame.Options{Governor: g}
	b := &frametest.Broker{T: t, Buffer: []int{20, 500, 5000, 64 << 10}[r.IntN(4)], Client: o, Appliance: o}
	client, appliance := b.Open()
	streams := []*frame.Stream{client, appliance}
	var got [2]checker // by the client, by the appliance
	var sent [2]int64
	var errs [2]error
	var work sync.WaitGroup
	ctx, stop := context.WithCancelCause(context.Background())
	for i, s := range streams {
		work.Go(func() {
			ctx := ctx
			if i > 0 {
				ctx = context.Background()
			}
			errs[i] = s.Deliver(ctx, &got[i])
			if errors.Is(errs[i], errEnough) {
				s.Reset(frame.Reason{Code: "E_REVOKED"})
			}
		})
	}
	synctest.Wait()
	for i, s := range streams {
		work.Go(func() {
			sent[i] = count(context.Background(), s, rand.New(rand.NewPCG(seed, uint64(i))), 9000, 3*time.Millisecond)
		})
	}
	work.Go(func() { // a client that resumes until it is told that there is no flow
		for {
			if _, end := client.Detached(context.Background()); end != nil {
				return
			}
			c, bond := b.Offer()
			err := client.Resume(context.Background(), c, bond, frame.WhyLost)
			var told *frame.StreamError
			if errors.As(err, &told) && told.Remote {
				client.GiveUp(err)
			}
		}
	})
	cutting := make(chan struct{})
	work.Go(func() {
		r := rand.New(rand.NewPCG(seed, 36))
		for {
			select {
			case <-cutting:
				return
			case <-time.After(time.Duration(r.IntN(8)) * time.Millisecond):
				b.Cut()
			}
		}
	})
	work.Go(func() {
		r := rand.New(rand.NewPCG(seed, 35))
		for range 20 {
			time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond)
			c, bond := b.Offer()
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(5))*time.Millisecond)
			client.Resume(ctx, c, bond, frame.WhyLost)
			cancel()
		}
	})
	var over sync.WaitGroup
	for i, s := range streams {
		if i == 1 && r.IntN(2) == 0 {
			continue
		}
		at, how := time.Duration(r.IntN(150))*time.Millisecond, []string{"Close", "Reset", "GiveUp", "cancel"}[r.IntN(4-i)]
		total[how]++
		over.Go(func() {
			time.Sleep(at)
			switch how {
			case "Close":
				s.Close()
			case "Reset":
				s.Reset(frame.Reason{Code: "E_REVOKED"})
			case "GiveUp":
				s.GiveUp(frame.Refuse("E_RESUME_EXPIRED", "gone", ""))
			case "cancel":
				stop(errEnough)
			}
		})
	}
	over.Wait()
	close(cutting)
	time.Sleep(time.Minute)
	for _, s := range streams { // the grace of whoever was not told
		if v := s.Vitals(); v.End == nil {
			if v.Lost == nil {
				t.Errorf("seed %d: an end lives, and has a carrier: %+v", seed, v)
			}
			total["grace"]++
			s.GiveUp(frame.Refuse("E_RESUME_EXPIRED", "gone", ""))
		}
	}
	work.Wait()
	stop(nil)
	b.Wait()
	time.Sleep(time.Minute)
	synctest.Wait()
	for i := range streams {
		if got[i].n.Load() > sent[1-i] || got[i].ended.Load() > 0 && got[i].n.Load() != sent[1-i] {
			t.Errorf("seed %d, end %d: %d of %d, the end at %d", seed, i, got[i].n.Load(), sent[1-i], got[i].ended.Load()-1)
		}
	}
	if b.Forks() > 0 || g.Free() != room {
		t.Errorf("seed %d: %d alarms, the governor has %d of %d", seed, b.Forks(), g.Free(), room)
	}
	for i, s := range streams {
		if replay, _ := s.Holds(); replay != 0 {
			t.Errorf("seed %d, end %d: holds %d", seed, i, replay)
		}
	}
}

// taking is a next hop as a Writer.
type taking struct{ k *checker }

func (w taking) Write(p []byte) (int, error) { return w.k.Take(p) }
