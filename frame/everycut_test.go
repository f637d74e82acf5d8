package frame_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/frame"
	"sallyport/frame/frametest"
)

// The two directions.
const (
	up   = iota // to the appliance
	down        // to the client
)

// A meter counts what arrives over all carriers of a flow, and cuts the one that brings the last byte it allows.
type meter struct {
	mu     sync.Mutex
	way    int // that is counted to
	at     int // bytes that may arrive; 0: all
	done   bool
	passed [2]int
	heard  map[frame.Carrier]*bytes.Buffer // of each end of a carrier; nil: nobody wants to know
}

func (m *meter) wrap(c, a *frametest.PipeCarrier) (client, on frame.Carrier) {
	return &metered{c, m, down}, &metered{a, m, up}
}

type metered struct {
	*frametest.PipeCarrier
	m   *meter
	way int // of what is read here
}

func (c *metered) Read(p []byte) (int, error) {
	m := c.m
	m.mu.Lock()
	counts := !m.done && m.at > 0 && m.way == c.way
	if counts {
		p = p[:min(len(p), m.at-m.passed[c.way])]
	}
	m.mu.Unlock()
	n, err := c.PipeCarrier.Read(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.passed[c.way] += n; counts && m.passed[c.way] >= m.at && !m.done {
		m.done = true
		c.Break()
	}
	if m.heard != nil {
		if m.heard[c] == nil {
			m.heard[c] = new(bytes.Buffer)
		}
		m.heard[c].Write(p[:n])
	}
	return n, err
}

// types are those of all frames that arrived whole.
func (m *meter) types() map[frame.Type]bool {
	seen := map[frame.Type]bool{}
	for _, b := range m.heard {
		for b.Len() > 0 {
			var head [frame.HeaderSize]byte
			h, err := frame.ReadHeader(b, &head)
			if err != nil {
				break
			}
			seen[h.Type] = true
			io.CopyN(io.Discard, b, int64(h.Length))
		}
	}
	return seen
}

// A ledger is a next hop that keeps what it takes and where it was told of the end.
type ledger struct {
	got   bytes.Buffer
	ends  []int // bytes before each CloseWrite
	after bool  // bytes came after the end
}

func (l *ledger) Take(p []byte) (int, error) {
	l.after = l.after || len(l.ends) > 0
	return l.got.Write(p)
}
func (l *ledger) WaitWritable(ctx context.Context) error { return ctx.Err() }
func (l *ledger) CloseWrite() error                      { l.ends = append(l.ends, l.got.Len()); return nil }

func (l *ledger) exact(want []byte) bool {
	return bytes.Equal(l.got.Bytes(), want) && len(l.ends) == 1 && l.ends[0] == len(want) && !l.after
}

var (
	upBytes   = pattern(8200)
	downBytes = pattern(9700)
)

func pattern(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(7, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// A part is what one end does in the trace; both wait in fake time, so that the trace is always the same.
func part(s *frame.Stream, all []byte, do map[int]func()) {
	for i := range 20 {
		from, to := i*len(all)/20, (i+1)*len(all)/20
		for mid := from + (to-from)/3; from < to; from, mid = mid, to {
			if _, err := s.Write(all[from:mid]); err != nil {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		if do[i] != nil {
			do[i]()
		}
		time.Sleep(30 * time.Millisecond)
	}
}

// An outcome says how a flow of the trace has ended.
type outcome string

const (
	inOrder    outcome = "in order"
	unopened   outcome = "E_CONNECTION, before OPENED had come"
	unmet      outcome = "E_CONNECTION, before the client's first ACK had come"
	unthanked  outcome = "in order, but for the client's last ACK"
	resetTold  outcome = "E_IDLE, told to both"
	resetGuess outcome = "E_IDLE at the appliance, told when the client came back"
)

// traced runs the trace with a meter. With reset the appliance ends the flow instead of its direction.
func traced(t *testing.T, m *meter, reset bool) outcome {
	b := &frametest.Broker{T: t, Buffer: 4 << 10, Wrap: m.wrap}
	defer b.Wait()
	client, appliance, err := b.TryOpen()
	ends := [2]*ledger{{}, {}} // what arrived at the appliance, at the client
	var errs [2]error
	var work sync.WaitGroup
	if appliance != nil {
		work.Go(func() { errs[up] = appliance.Deliver(context.Background(), ends[up]) })
	}
	if err != nil {
		work.Wait()
		var lost *frame.StreamError
		if !errors.As(err, &lost) || lost.Code != frame.Lost || appliance != nil && !isLost(errs[up]) {
			t.Errorf("open: %v, %v", err, errs[up])
		}
		return unopened
	}
	work.Go(func() { errs[down] = client.Deliver(context.Background(), ends[down]) })
	synctest.Wait() // both read by Deliver

	var refused error
	move := func(bond *frame.Bond) {
		c, real := b.Offer()
		if bond == nil {
			bond = real
		}
		client.Resume(context.Background(), c, bond, frame.WhyLost)
	}
	work.Go(func() {
		part(client, upBytes, map[int]func(){
			1: client.Probe, 2: func() { client.Say([]byte{0x90, 0, 0, 3, 1, 2, 3}) },
			4: func() { move(nil) },              // before the old carrier is broken
			6: func() { move(frametest.Bond()) }, // with a proof that is of another connection
			9: client.Probe, 14: func() { move(nil) },
		})
		client.CloseWrite()
	})
	work.Go(func() {
		part(appliance, downBytes, map[int]func(){
			1: func() { appliance.Notify(frame.Notice{Text: "this access ends in 5 minutes"}) }, 3: appliance.Probe,
			5:  func() { appliance.AskToMove(frame.Drain{Left: 30000, Text: "the appliance restarts"}) },
			11: func() { appliance.Say([]byte{0x91, 0, 0, 0}) },
		})
		time.Sleep(300 * time.Millisecond) // the client's FIN is taken first
		if reset {
			appliance.Reset(frame.Reason{Code: "E_IDLE", Sentence: "nothing moved"})
		} else {
			appliance.CloseWrite()
		}
	})
	work.Go(func() {
		for {
			if _, end := client.Detached(context.Background()); end != nil {
				return
			}
			c, bond := b.Offer()
			err := client.Resume(context.Background(), c, bond, frame.WhyLost)
			var refusal *frame.StreamError
			if errors.As(err, &refusal) && refusal.Remote {
				refused = err
				client.GiveUp(err)
				return
			}
		}
	})
	ending := make(chan struct{})
	go func() { // what an appliance does about a client that does not come back
		defer close(ending)
		select {
		case <-client.Done():
			time.Sleep(time.Minute)
			if v := appliance.Vitals(); v.Lost != nil && v.Ending {
				appliance.GiveUp(errUnthanked)
			}
		case <-appliance.Done():
		}
	}()
	work.Wait()
	<-ending
	v := appliance.Vitals()
	where := fmt.Sprintf("cut way %d at %d, reset %v", m.way, m.at, reset)
	if b.Forks() > 0 {
		t.Errorf("%s: an alarm", where)
	}
	switch {
	case refused != nil && isLost(errs[up]) && !v.Kept && m.at < 200:
		return unmet
	case reset:
		var told *frame.StreamError
		if !ends[up].exact(upBytes) || !bytes.HasPrefix(downBytes, ends[down].got.Bytes()) || len(ends[down].ends) > 0 ||
			!errors.As(errs[down], &told) || told.Code != "E_IDLE" || !told.Remote {
			t.Errorf("%s: %d of %d, %d of %d, %v, %v", where, ends[up].got.Len(), len(upBytes), ends[down].got.Len(), len(downBytes), errs[up], errs[down])
		}
		if refused != nil {
			return resetGuess
		}
		return resetTold
	case errs[down] == nil && ends[up].exact(upBytes) && ends[down].exact(downBytes):
		switch errs[up] {
		case nil:
			return inOrder
		case errUnthanked:
			return unthanked
		}
	}
	t.Errorf("%s: up %d of %d, %d ends, down %d of %d, %d ends; appliance %v, client %v, refused %v, kept %v, passed %d", where,
		ends[up].got.Len(), len(upBytes), len(ends[up].ends), ends[down].got.Len(), len(downBytes), len(ends[down].ends),
		errs[up], errs[down], refused, v.Kept, m.passed)
	return "bad"
}

var errUnthanked = errors.New("nobody came back")

func isLost(err error) bool {
	var e *frame.StreamError
	return errors.As(err, &e) && e.Code == frame.Lost && !e.Remote
}

// TestEveryCut cuts the flow's carrier after each byte of a trace that has every frame type, in each direction: it resumes
// and completes, or ends for the reason that PROTOCOL.md gives. Every seventh byte; with SALLYPORT_SOAK all.
func TestEveryCut(t *testing.T) {
	step := 7
	if os.Getenv("SALLYPORT_SOAK") != "" {
		step = 1
	}
	for _, reset := range []bool{false, true} {
		whole := &meter{heard: map[frame.Carrier]*bytes.Buffer{}}
		synctest.Test(t, func(t *testing.T) { traced(t, whole, reset) })
		if t.Failed() {
			return
		}
		seen := whole.types()
		if !reset {
			if !seen[frame.TypeFin] || len(seen) != 15 {
				t.Errorf("the trace has %v", seen)
			}
			if n := whole.passed[up] + whole.passed[down]; n < 20_000 {
				t.Errorf("the trace has %d bytes", n)
			}
		} else if !seen[frame.TypeReset] {
			t.Errorf("the trace has %v", seen)
		}
		got := map[outcome]int{}
		cuts := 0
		for way := range 2 {
			first := 1 + rand.IntN(step) // the log tells where it went wrong
			if reset {
				first = max(1, whole.passed[way]-400) // what comes before is the same
			}
			for at := first; at <= whole.passed[way]; at += step {
				synctest.Test(t, func(t *testing.T) { got[traced(t, &meter{way: way, at: at}, reset)]++ })
				if cuts++; t.Failed() {
					return
				}
			}
		}
		t.Logf("reset %v: %d bytes up, %d down, %d cuts: %v", reset, whole.passed[up], whole.passed[down], cuts, got)
	}
}
