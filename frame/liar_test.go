package frame

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A sink is a next hop that keeps what it takes. Its zero value takes everything.
type sink struct {
	mu      sync.Mutex
	got     bytes.Buffer
	ended   bool
	atOnce  func() int // how much the next Take accepts; nil: all
	blocked bool       // takes nothing, ever
	err     error
}

func (k *sink) Take(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.err != nil:
		return 0, k.err
	case k.blocked:
		return 0, nil
	case k.atOnce != nil:
		p = p[:min(len(p), k.atOnce())]
	}
	return k.got.Write(p)
}

func (k *sink) WaitWritable(ctx context.Context) error {
	if k.blocked {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return ctx.Err()
}

func (k *sink) CloseWrite() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = true
	return nil
}

func data(p string) []byte { return append(header(TypeData, len(p)), p...) }

func fin(n uint64) []byte { return appendFin(nil, n) }

func ackFrame(acked, limit uint64) []byte { return Ack{Acked: acked, Limit: limit}.Append(nil) }

func join(frames ...[]byte) []byte { return slices.Concat(frames...) }

// TestLiars: each lie ends the flow with its code, told to the liar.
func TestLiars(t *testing.T) {
	full := strings.Repeat("x", FirstLimit)
	ping := AppendProbe(nil, TypePing, [8]byte{9})
	for name, say := range map[string]struct {
		frames []byte
		code   Code
	}{
		"beyond the limit":            {join(data(full), data("x")), Credit},
		"beyond the limit, far":       {data(strings.Repeat("x", MaxData)), Credit},
		"ack of bytes never sent":     {ackFrame(6, FirstLimit), AckBad}, // five were sent
		"ack of a FIN never sent":     {ackFrame(6, 1<<20), AckBad},
		"ack goes back":               {join(ackFrame(5, 1<<20), ackFrame(4, 1<<20)), AckBad},
		"limit goes back":             {join(ackFrame(5, 1<<20), ackFrame(5, 1<<19)), AckBad},
		"limit under the first":       {ackFrame(0, FirstLimit-1), AckBad},
		"limit over 2^62":             {ackFrame(0, 1<<62), Credit},
		"limit of 2^64-1":             {ackFrame(0, 1<<64-1), Credit},
		"acked over 2^62":             {ackFrame(1<<62, 1<<20), Credit},
		"ack with nonces":             {Ack{Limit: 1 << 20, Nonces: make([][16]byte, 1)}.Append(nil), AckBad},
		"ack with half a nonce":       {append(header(TypeAck, 24), make([]byte, 24)...), FrameBad},
		"ack with nine nonces":        {append(header(TypeAck, 160), make([]byte, 160)...), FrameSize},
		"data after FIN":              {join(data("abc"), fin(3), data("d")), FinBad},
		"second FIN":                  {join(data("abc"), fin(3), fin(3)), FinBad},
		"FIN too late":                {join(data("abc"), fin(4)), FinBad},
		"FIN too early":               {join(data("abc"), fin(2)), FinBad},
		"FIN over 2^62":               {fin(1 << 62), Credit},
		"unknown type":                {header(0x7f, 0), FrameType},
		"unknown type 0":              {make([]byte, 4), FrameType},
		"OPEN within the flow":        {Append(nil, TypeOpen, &OpenRequest{Protocol: "ssh"}), FrameType},
		"HELLO within the flow":       {Append(nil, TypeHello, &Hello{Versions: []uint8{1}}), FrameType},
		"DATA too long":               {header(TypeData, MaxData+1), FrameSize},
		"DATA much too long":          {header(TypeData, 1<<24-1), FrameSize},
		"DATA empty":                  {header(TypeData, 0), FrameBad},
		"PING too short":              {append(header(TypePing, 4), 1, 2, 3, 4), FrameBad},
		"NOTICE too long":             {header(TypeNotice, 5000), FrameSize},
		"NOTICE that is no CBOR":      {append(header(TypeNotice, 1), 0xff), FrameBad},
		"optional type too long":      {header(0x81, maxOption+1), FrameSize},
		"SUPERSEDED with a payload":   {append(header(TypeSuperseded, 1), 1), FrameSize},
		"a lie after what is skipped": {join(append(header(0x81, 3), 1, 2, 3), ping, header(0x7f, 0)), FrameType},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := NewGovernor(allRoom)
				c := newScript(nil)
				c.hold = true // and never hangs up
				s := newStream(c, Options{Governor: g})
				commit(t, s, "hello")
				synctest.Wait()
				c.say(say.frames)
				start := time.Now()
				err := s.Deliver(t.Context(), &sink{blocked: true})
				if codeOf(err) != say.code || remote(err) {
					t.Errorf("the flow ended with %v (%s), want %s", err, codeOf(err), say.code)
				}
				told := c.told()
				if last := told[len(told)-1]; !strings.HasPrefix(last, "RESET code="+string(say.code)) {
					t.Errorf("the liar was told %s", last)
				}
				if took := time.Since(start); took > 2*farewell {
					t.Errorf("it took %v", took)
				}
				if _, again := s.Reserve(t.Context()); !errors.Is(again, err) {
					t.Errorf("later calls say %v", again)
				}
				over(t, s, c, g)
			})
		})
	}
}

const allRoom = 64 << 20

// over checks that nothing is left of a flow.
func over(t *testing.T, s *Stream, c *script, g *Governor) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.replay.len() != 0 || s.spill.len() != 0 && s.taker != nil || s.held != 0 || s.covered != 0 || s.spare != nil || s.writing || s.draining {
		t.Errorf("left: replay %d, spill %d, held %d, covered %d, spare %v, writing %v, draining %v",
			s.replay.len(), s.spill.len(), s.held, s.covered, s.spare != nil, s.writing, s.draining)
	}
	if g.Free() != allRoom {
		t.Errorf("the governor has %d, had %d", g.Free(), allRoom)
	}
	if !c.closed {
		t.Error("the carrier is open")
	}
}

func remote(err error) bool {
	var se *StreamError
	return errors.As(err, &se) && se.Remote
}

func commit(t testing.TB, s *Stream, p string) {
	t.Helper()
	for len(p) > 0 {
		b, err := s.Reserve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := copy(b, p)
		if err := s.Commit(n); err != nil {
			t.Fatal(err)
		}
		p = p[n:]
	}
}

// TestSmallFrames: what waits costs about what it is, whatever frames it came in.
func TestSmallFrames(t *testing.T) {
	for _, sizes := range [][]int{{1}, {smallSlab}, {smallSlab + 1}, {1, smallSlab + 1}, {smallSlab, 1}, {1, smallSlab + 1, 61440}, {40000}} {
		t.Run(fmt.Sprint(sizes), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newScript(nil)
				c.hold = true
				g := NewGovernor(allRoom)
				s := newStream(c, Options{Governor: g})
				s.room, s.limit = 1<<18, 1<<18 // as if it had grown
				g.take(s.room - FirstLimit)
				sent := 0
				var say []byte
				for i := 0; sent+sizes[i%len(sizes)] <= 1<<18; i++ {
					say = append(say, data(strings.Repeat("x", sizes[i%len(sizes)]))...)
					sent += sizes[i%len(sizes)]
				}
				c.say(say)
				ctx, cancel := context.WithCancelCause(t.Context())
				done := make(chan error)
				go func() { done <- s.Deliver(ctx, &sink{blocked: true}) }()
				synctest.Wait()
				s.mu.Lock()
				cost := 0
				for i := range s.spill.len() {
					cost += len(s.spill.at(i).mem)
				}
				if int(s.received) != sent || cost > 2*sent+largeSlab {
					t.Errorf("%d bytes of %d arrived and hold %d", s.received, sent, cost)
				}
				s.mu.Unlock()
				cause := errors.New("enough")
				cancel(cause)
				if err := <-done; err != cause {
					t.Errorf("Deliver returned %v", err)
				}
				s.Reset(Reason{Code: "E_IDLE"})
				over(t, s, c, g)
			})
		})
	}
}

// TestFloods: control frames that a peer does not wait for cost no memory.
func TestFloods(t *testing.T) {
	const many = 50000
	notices := 0
	for name, frame := range map[string][]byte{
		"PING":     AppendProbe(nil, TypePing, [8]byte{1}),
		"PONG":     AppendProbe(nil, TypePong, [8]byte{1}),
		"NOTICE":   Append(nil, TypeNotice, &Notice{Text: "look"}),
		"DRAIN":    Append(nil, TypeDrain, &Drain{Left: 1}),
		"ACK":      ackFrame(0, FirstLimit),
		"optional": append(header(0x99, 5), "12345"...),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newScript(bytes.Repeat(frame, many))
				c.hold, c.deaf = true, true
				g := NewGovernor(allRoom)
				s := newStream(c, Options{Governor: g, Notice: func(Notice) { notices++ }})
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- s.Deliver(ctx, &sink{}) }()
				synctest.Wait()
				runtime.GC()
				runtime.ReadMemStats(&after)
				if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
					t.Errorf("the heap grew by %d", grown)
				}
				if len(c.in) != 0 || len(s.pongs) > maxPongs || len(s.extra) > 0 {
					t.Errorf("%d bytes unread, %d PONGs, %d bytes owed", len(c.in), len(s.pongs), len(s.extra))
				}
				cancel()
				<-done
				start := time.Now()
				s.Reset(Reason{Code: "E_IDLE"})
				if took := time.Since(start); took > lastWrites+farewell {
					t.Errorf("Reset took %v", took)
				}
				over(t, s, c, g)
			})
		})
	}
	if notices != many {
		t.Errorf("%d notices, want %d", notices, many)
	}
}

// trace is what a peer says in a flow that ends in order, after five bytes and FIN from our side.
func trace() (say []byte, bytes, finEnd int) {
	r := rand.New(rand.NewPCG(1, 2))
	say = join(AppendProbe(nil, TypePing, [8]byte{1}), data("hello"))
	n := 5
	for len(say) < 2000 {
		p := strings.Repeat(string(rune('a'+n%26)), 1+r.IntN(300))
		n += len(p)
		say = join(say, data(p), append(header(0x80+Type(r.IntN(128)), 3), "abc"...),
			AppendProbe(nil, TypePing, [8]byte{2}), Append(nil, TypeNotice, &Notice{Text: "hm"}), ackFrame(3, FirstLimit))
	}
	say = join(say, fin(uint64(n)))
	finEnd = len(say)
	return join(say, ackFrame(6, FirstLimit)), n, finEnd
}

// play runs our side of trace's flow against what c says. Before the peer hangs up a second passes, if it waits.
func play(t *testing.T, c *script, k *sink) error {
	g := NewGovernor(allRoom)
	s := newStream(c, Options{Governor: g})
	commit(t, s, "hello")
	s.CloseWrite()
	s.mu.Lock()
	s.rest()
	s.mu.Unlock()
	err := s.Deliver(t.Context(), k)
	over(t, s, c, g)
	return err
}

// TestSplits: the carrier's pieces do not matter.
func TestSplits(t *testing.T) {
	say, n, _ := trace()
	var want string
	try := func(name string, piece func() int) {
		synctest.Test(t, func(t *testing.T) {
			c := newScript(say)
			c.hold, c.piece = true, piece
			k := &sink{}
			err := play(t, c, k)
			last := ""
			for _, f := range c.told() {
				if strings.HasPrefix(f, "ACK") {
					last = f
				}
			}
			got := fmt.Sprint(err, k.ended, last, k.got.String())
			if want == "" {
				want = got
			}
			if err != nil || !k.ended || k.got.Len() != n || got != want {
				t.Errorf("%s: %v, ended %v, %d bytes of %d, %s", name, err, k.ended, k.got.Len(), n, last)
			}
		})
	}
	try("whole", nil)
	try("byte by byte", func() int { return 1 })
	for at := 1; at < len(say); at++ {
		left := at
		try(fmt.Sprint("split at ", at), func() int {
			if left > 0 {
				left = 0 // the reader asks for headers first, so a piece is a bound, not a promise
				return at
			}
			return 1 << 20
		})
	}
	for i := range 300 {
		r := rand.New(rand.NewPCG(3, uint64(i)))
		try(fmt.Sprint("random ", i), func() int { return 1 + r.IntN(1+r.IntN(200)) })
	}
}

// TestCuts: a carrier that ends anywhere before the end loses the flow, and never ends it in order.
func TestCuts(t *testing.T) {
	say, n, finEnd := trace()
	whole := &sink{}
	synctest.Test(t, func(t *testing.T) {
		c := newScript(say)
		c.hold = true
		if err := play(t, c, whole); err != nil {
			t.Fatal(err)
		}
	})
	for at := range len(say) {
		k := &sink{}
		err := play(t, newScript(say[:at]), k)
		if codeOf(err) != Lost || remote(err) {
			t.Fatalf("cut at %d of %d: %v", at, len(say), err)
		}
		if k.ended && at < finEnd || !bytes.HasPrefix(whole.got.Bytes(), k.got.Bytes()) || k.got.Len() > n {
			t.Fatalf("cut at %d: ended %v, %d bytes", at, k.ended, k.got.Len())
		}
	}
}

// TestNoAcks: what a peer does not acknowledge is bounded, whatever it grants.
func TestNoAcks(t *testing.T) {
	for name, c := range map[string]struct {
		piece string
		g     *Governor
		held  int // Options' MaxHeld
		most  int
	}{
		"Bulk":        {strings.Repeat("x", largeSlab), NewGovernor(allRoom), 0, maxReplay + largeSlab},
		"Keystrokes":  {"x", NewGovernor(allRoom), 0, maxReplay + largeSlab},
		"BulkNoRoom":  {strings.Repeat("x", largeSlab), NewGovernor(0), 0, freeReplay},
		"NobodyCares": {strings.Repeat("x", largeSlab), nil, 0, maxReplay + largeSlab},
		"Browser":     {strings.Repeat("x", largeSlab), NewGovernor(allRoom), 1 << 20, 1<<20 + largeSlab},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				room := int64(0)
				if c.g != nil {
					room = c.g.Free()
				}
				carrier := newScript(ackFrame(0, MaxOffset))
				carrier.hold = true
				s := newStream(carrier, Options{Governor: c.g, MaxHeld: c.held})
				done := make(chan error)
				go func() { done <- s.Deliver(t.Context(), &sink{}) }()
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				for {
					b, err := s.Reserve(ctx)
					if err != nil {
						break
					}
					s.Commit(copy(b, c.piece))
					synctest.Wait()
					if s.held > c.most {
						t.Fatalf("held %d", s.held)
					}
				}
				if s.held < c.most/2 {
					t.Errorf("blocked at %d", s.held)
				}
				s.Reset(Reason{Code: "E_IDLE"})
				<-done
				if s.held != 0 || c.g != nil && c.g.Free() != room {
					t.Errorf("held %d, the governor has %d of %d", s.held, c.g.Free(), room)
				}
			})
		})
	}
}

// TestGovernorShares: a flow that has grown gives room back while little is left, and its limit stays true.
func TestGovernorShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGovernor(allRoom)
		c := newScript(nil)
		c.hold = true
		s := newStream(c, Options{Governor: g})
		done := make(chan error)
		go func() { done <- s.Deliver(t.Context(), &sink{}) }()
		send := func(n int) {
			for range n {
				c.say(data(strings.Repeat("x", 4096)))
				synctest.Wait()
				if s.limit > s.taken+uint64(s.room) {
					t.Fatalf("limit %d, taken %d, room %d", s.limit, s.taken, s.room)
				}
			}
		}
		send(4096)
		grown := s.room
		if grown != 8<<20 {
			t.Errorf("room grew to %d", grown)
		}
		g.take(int(g.Free())) // other flows
		send(4096)
		if s.room != fairRoom || g.Free() != int64(grown-fairRoom) {
			// What it gave back has been enough to end the shortage, or it is down to its share.
			if g.tight() {
				t.Errorf("room %d, free %d", s.room, g.Free())
			}
		}
		c.say(fin(s.received))
		s.Reset(Reason{Code: "E_IDLE"})
		<-done
	})
}

// TestShare: what one person's flows take is taken from all, and no more than the share; what is given back is everybody's.
func TestShare(t *testing.T) {
	all := NewGovernor(100)
	ann, bob := all.Share(60), all.Share(60)
	if ann.take(61) || !ann.take(60) || ann.take(1) {
		t.Error("a share is not kept to")
	}
	if !ann.tight() || bob.tight() {
		t.Error("one person's shortage is another's")
	}
	if bob.take(41) || !bob.take(40) {
		t.Error("shares grant more than there is")
	}
	if !bob.tight() {
		t.Error("nothing is left, and nobody knows")
	}
	ann.give(60)
	bob.give(40)
	for _, g := range []*Governor{ann, bob} {
		if g.Free() != 60 {
			t.Errorf("%d are left of a share of 60", g.Free())
		}
	}
	if all.Free() != 100 {
		t.Errorf("%d are left of 100", all.Free())
	}
	var none *Governor
	if alone := none.Share(5); !alone.take(5) || alone.take(1) {
		t.Error("a share of no bound has none")
	}
}

// FuzzStream: an arbitrary peer cannot make a flow panic, hang or keep anything.
func FuzzStream(f *testing.F) {
	for _, e := range examples(f) {
		f.Add(e.frame)
	}
	say, _, _ := trace()
	f.Add(say)
	f.Fuzz(func(t *testing.T, b []byte) {
		watch := time.AfterFunc(10*time.Second, func() { panic(fmt.Sprintf("a flow hangs on %x", b)) })
		defer watch.Stop()
		c := newScript(b)
		r := rand.New(rand.NewPCG(uint64(len(b)), 1))
		err := play(t, c, &sink{atOnce: func() int { return r.IntN(50) }})
		if err == nil && len(b) < 2*(HeaderSize+8) {
			t.Error("ended in order without the frames for it")
		}
	})
}
