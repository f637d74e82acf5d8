package frame

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An applianceEnd is the appliance's end of a kept flow whose client is a script.
type applianceEnd struct {
	t      *testing.T
	s      *Stream
	c      *script // the carrier
	g      *Governor
	ticket *ticket // the client's keys
	n      byte    // of the latest connection
}

func newApplianceEnd(t *testing.T) *applianceEnd {
	t.Helper()
	e := &applianceEnd{t: t, g: NewGovernor(allRoom), ticket: &ticket{flow: flowID, key: keyOf(t)}}
	e.c = newScript(join(Append(nil, TypeOpen, &OpenRequest{Target: "db-1", Protocol: "ssh"}), ackFrame(0, FirstLimit)))
	e.c.hold = true
	in, err := Accept(t.Context(), e.c, Options{Governor: e.g})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Keep(bondOf(0), flowID, sessionID); err != nil {
		t.Fatal(err)
	}
	e.s = in.Accept(Opened{Flow: flowID, Session: sessionID, Grace: 1000})
	return e
}

// offer is a client's RESUME on a new carrier. The answer is nil if there was none.
func (e *applianceEnd) offer(received, limit uint64) (Attachment, *script, attempt, *Resumed) {
	e.t.Helper()
	e.n++
	b := bondOf(e.n)
	a, r := e.ticket.try(b, received, limit)
	c := newScript(Append(nil, TypeResume, r))
	c.hold = true
	in, err := Accept(e.t.Context(), c, Options{Governor: e.g})
	if err != nil {
		e.t.Fatal(err)
	}
	done, _ := e.s.Attach(in, b, func() error { return nil })
	synctest.Wait()
	p := c.find(TypeResumed)
	if p == nil {
		return done, c, a, nil
	}
	var d Resumed
	if err := Parse(TypeResumed, p, &d); err != nil {
		e.t.Fatal(err)
	}
	if !a.verify(b, r, &d) {
		e.t.Error("the appliance's proof is not valid")
	}
	return done, c, a, &d
}

// resume is a client that resumes as it should.
func (e *applianceEnd) resume(taken, limit uint64) *script {
	e.t.Helper()
	done, c, a, d := e.offer(taken, limit)
	if done != Attached || d == nil {
		e.t.Fatalf("attach: %v", done)
	}
	key, listed := e.ticket.attach(bondOf(e.n), a, d)
	c.say(Ack{Acked: taken, Limit: limit, Nonces: listed}.Append(nil))
	synctest.Wait()
	e.ticket.settle(key)
	e.c = c
	return c
}

// A clientEnd is the client's end of a kept flow whose appliance is a script.
type clientEnd struct {
	t    *testing.T
	s    *Stream
	c    *script
	g    *Governor
	keys *keyring // the appliance's
	n    byte
}

func newClientEnd(t *testing.T) *clientEnd {
	t.Helper()
	_, keys := keysOf(t)
	e := &clientEnd{t: t, g: NewGovernor(allRoom), keys: keys}
	e.c = newScript(Append(nil, TypeOpened, &Opened{Flow: flowID, Session: sessionID, Grace: 1000}))
	e.c.hold = true
	s, opened, err := Open(t.Context(), e.c, OpenRequest{Target: "db-1", Protocol: "ssh"}, Options{Governor: e.g})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(bondOf(0), opened); err != nil {
		t.Fatal(err)
	}
	e.s = s
	synctest.Wait()
	return e
}

// A try is an attempt of the client, as its appliance sees it.
type try struct {
	c    *script
	n    byte // of the connection
	r    *Resume
	done chan error // what Resume returns
}

func (e *clientEnd) offer(ctx context.Context) *try {
	e.t.Helper()
	e.n++
	a := &try{c: newScript(nil), n: e.n, done: make(chan error, 1)}
	a.c.hold = true
	go func() { a.done <- e.s.Resume(ctx, a.c, bondOf(a.n), WhyLost) }()
	synctest.Wait()
	if p := a.c.find(TypeResume); p != nil {
		a.r = new(Resume)
		if err := Parse(TypeResume, p, a.r); err != nil {
			e.t.Fatal(err)
		}
	}
	return a
}

// answer makes the RESUMED of an appliance that has taken so much.
func (e *clientEnd) answer(a *try, taken, limit uint64) []byte {
	e.t.Helper()
	if v := e.keys.judge(bondOf(a.n), a.r); v != proven {
		e.t.Fatalf("the client's RESUME is %d", v)
	}
	d := &Resumed{Received: taken, Limit: limit}
	e.keys.answer(bondOf(a.n), a.r, d)
	return Append(nil, TypeResumed, d)
}

// confirmed takes the client's first ACK.
func (e *clientEnd) confirmed(a *try) {
	e.t.Helper()
	p := a.c.find(TypeAck)
	if p == nil {
		e.t.Fatal("the client does not confirm")
	}
	if ack, err := ParseAck(p); err != nil || !e.keys.confirm(nonce(a.r.Nonce), ack.Nonces) {
		e.t.Fatalf("the client confirms by %+v, %v", ack, err)
	}
}

// cut breaks the carrier.
func (s *script) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed.Broadcast()
}

func (s *script) setDeaf(deaf bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = deaf
	s.changed.Broadcast()
}

func (s *script) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// find is the payload of the first frame of a type that was written to s.
func (s *script) find(typ Type) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := bytes.NewReader(s.out.Bytes())
	for {
		h, p, err := ReadFrame(r)
		if err != nil || h.Type == typ {
			return p
		}
	}
}

// leftovers checks that a flow has ended and has left nothing.
func leftovers(t *testing.T, s *Stream, g *Governor, carriers ...*script) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil || s.replay.len() != 0 || s.spill.len() != 0 && s.taker != nil || s.held != 0 || s.covered != 0 ||
		s.spare != nil || s.writing || s.draining || !s.gone {
		t.Errorf("left: end %v, replay %d, spill %d, held %d, covered %d, spare %v, writing %v, draining %v, gone %v",
			s.err, s.replay.len(), s.spill.len(), s.held, s.covered, s.spare != nil, s.writing, s.draining, s.gone)
	}
	if g.Free() != allRoom {
		t.Errorf("the governor has %d of %d", g.Free(), allRoom)
	}
	for i, c := range carriers {
		if !c.isClosed() {
			t.Errorf("carrier %d is open", i)
		}
	}
}

func has(told []string, prefix string) bool {
	return slices.ContainsFunc(told, func(f string) bool { return strings.HasPrefix(f, prefix) })
}

// why a flow has no carrier, or the error of its end.
func (s *Stream) fate() (lost, end error) {
	v := s.Vitals()
	return v.Lost, v.End
}

// TestConfirm: what a client may say first after RESUMED. It was sent five bytes and has acknowledged three.
func TestConfirm(t *testing.T) {
	ack := func(a Ack) func([]nonce) []byte {
		return func(n []nonce) []byte {
			b := a
			b.Nonces = append(b.Nonces, n...)
			return b.Append(nil)
		}
	}
	always := func(b []byte) func([]nonce) []byte { return func([]nonce) []byte { return b } }
	good := ack(Ack{Acked: 5, Limit: 1 << 20})
	for name, c := range map[string]struct {
		say  func(listed []nonce) []byte
		code Code // "": the flow goes on
	}{
		"good":           {good, ""},
		"fewer taken":    {ack(Ack{Acked: 3, Limit: FirstLimit + 3}), ""},
		"after others":   {func(n []nonce) []byte { return join(AppendProbe(nil, TypePing, [8]byte{1}), header(0x90, 0), good(n)) }, ""},
		"no nonces":      {always(ackFrame(5, 1<<20)), AckBad},
		"other nonces":   {always(Ack{Acked: 5, Limit: 1 << 20, Nonces: []nonce{{1}}}.Append(nil)), AckBad},
		"not the first":  {ack(Ack{Acked: 5, Limit: 1 << 20, Nonces: []nonce{{1}}}), AckBad},
		"twice":          {func(n []nonce) []byte { return join(good(n), good(n)) }, AckBad},
		"never sent":     {ack(Ack{Acked: 6, Limit: 1 << 20}), "E_RESUME_DESYNC"},
		"acked before":   {ack(Ack{Acked: 2, Limit: 1 << 20}), "E_RESUME_DESYNC"},
		"limit before":   {ack(Ack{Acked: 5, Limit: FirstLimit + 2}), "E_RESUME_DESYNC"},
		"far":            {ack(Ack{Acked: 1 << 62, Limit: 1 << 62}), Credit},
		"DATA":           {always(data("x")), FrameType},
		"FIN":            {always(fin(3)), FrameType},
		"SUPERSEDED":     {always(header(TypeSuperseded, 0)), FrameType},
		"RESUMED":        {always(append(header(TypeResumed, 1), 0)), FrameType},
		"unknown":        {always(header(0x7f, 0)), FrameType},
		"what is no ACK": {always(append(header(TypeAck, 24), make([]byte, 24)...)), FrameBad},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newApplianceEnd(t)
				k := &sink{}
				done := deliver(t.Context(), e.s, k)
				commit(t, e.s, "hello")
				synctest.Wait()
				e.c.say(join(data("abc"), ackFrame(3, FirstLimit+3)))
				time.Sleep(time.Second)
				e.c.cut()
				synctest.Wait()
				attached, carrier, a, d := e.offer(1, 0) // it may be older than what was acknowledged
				if attached != Attached || d == nil || d.Received != 3 {
					t.Fatalf("attach: %v, %+v", attached, d)
				}
				_, listed := e.ticket.attach(bondOf(e.n), a, d)
				time.Sleep(time.Second)
				if told := carrier.told(); len(told) != 1 {
					t.Errorf("before it has confirmed the client was told %s", told)
				}
				carrier.say(c.say(listed))
				synctest.Wait()
				told := carrier.told()
				if c.code == "" {
					if !has(told, "ACK acked=3 ") || has(told, `DATA "lo"`) != (name == "fewer taken") {
						t.Errorf("the client was told %s", told)
					}
					carrier.say(data("def"))
					synctest.Wait()
					if k.got.String() != "abcdef" {
						t.Errorf("the next hop got %q", k.got.String())
					}
					go e.s.Reset(Reason{Code: "E_IDLE"})
				} else if last := told[len(told)-1]; !strings.HasPrefix(last, "RESET code="+string(c.code)) {
					t.Errorf("the client was told %s", told)
				}
				want := c.code
				if want == "" {
					want = "E_IDLE"
				}
				if err := <-done; codeOf(err) != want {
					t.Errorf("the flow ended with %v", err)
				}
				synctest.Wait()
				leftovers(t, e.s, e.g, e.c, carrier)
			})
		})
	}
}

// TestResumeOffsets: a RESUME or a RESUMED that states what cannot be ends the flow at both ends.
func TestResumeOffsets(t *testing.T) {
	for name, c := range map[string]struct {
		received uint64
		finSent  bool
		good     bool
	}{
		"all": {5, false, true}, "older": {0, false, true}, "more": {6, false, false}, "FIN": {6, true, true}, "beyond FIN": {7, true, false},
	} {
		t.Run("RESUME "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newApplianceEnd(t)
				done := deliver(t.Context(), e.s, &sink{})
				commit(t, e.s, "hello")
				if c.finSent {
					e.s.CloseWrite()
				}
				synctest.Wait()
				e.c.say(ackFrame(2, FirstLimit))
				synctest.Wait()
				e.c.cut()
				synctest.Wait()
				_, carrier, _, d := e.offer(c.received, FirstLimit)
				if told := carrier.told(); has(told, "RESET code=E_RESUME_DESYNC") == c.good || d == nil {
					t.Errorf("the client was told %s", told)
				}
				if c.good {
					go e.s.Reset(Reason{Code: "E_RESUME_DESYNC"})
				}
				if err := <-done; codeOf(err) != "E_RESUME_DESYNC" || remote(err) {
					t.Errorf("the flow ended with %v", err)
				}
				synctest.Wait()
				leftovers(t, e.s, e.g, e.c, carrier)
			})
		})
	}
	for name, c := range map[string]struct {
		received, limit uint64
		good            bool
	}{
		"all": {5, FirstLimit + 3, true}, "some": {3, FirstLimit + 3, true}, "more": {6, 1 << 20, false},
		"less than acknowledged": {2, 1 << 20, false}, "limit goes back": {5, FirstLimit + 2, false},
	} {
		t.Run("RESUMED "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newClientEnd(t)
				done := deliver(t.Context(), e.s, &sink{})
				commit(t, e.s, "hello")
				synctest.Wait()
				e.c.say(ackFrame(3, FirstLimit+3))
				synctest.Wait()
				e.c.cut()
				synctest.Wait()
				a := e.offer(t.Context())
				a.c.say(e.answer(a, c.received, c.limit))
				synctest.Wait()
				err := <-a.done
				if c.good {
					if err != nil {
						t.Errorf("resume: %v", err)
					}
					e.confirmed(a)
					if want := "hello"[c.received:]; want != "" && !has(a.c.told(), `DATA "`+want) {
						t.Errorf("the appliance was told %s", a.c.told())
					}
					go e.s.Reset(Reason{Code: "E_RESUME_DESYNC"})
				} else if codeOf(err) != "E_RESUME_DESYNC" {
					t.Errorf("resume: %v", err)
				}
				err = <-done
				if told := a.c.told(); codeOf(err) != "E_RESUME_DESYNC" || remote(err) || !has(told, "RESET code=E_RESUME_DESYNC") {
					t.Errorf("the flow ended with %v, and the appliance was told %s", err, told)
				}
				synctest.Wait()
				leftovers(t, e.s, e.g, e.c, a.c)
			})
		})
	}
}

// TestUnconfirmed: a client that was answered and says nothing loses the carrier, and can come again.
func TestUnconfirmed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newApplianceEnd(t)
		done := deliver(t.Context(), e.s, &sink{})
		commit(t, e.s, "hello")
		synctest.Wait()
		_, silent, _, d := e.offer(0, FirstLimit)
		if d == nil || !has(e.c.told(), "SUPERSEDED") {
			t.Errorf("answer %v; the carrier before was told %s", d, e.c.told())
		}
		silent.say(AppendProbe(nil, TypePing, [8]byte{1}))
		time.Sleep(confirmIn - time.Second)
		if lost, end := e.s.fate(); lost != nil || end != nil || !has(silent.told(), "PONG") {
			t.Errorf("within the time: %v, %v, told %s", lost, end, silent.told())
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if lost, end := e.s.fate(); lost == nil || end != nil || !silent.isClosed() {
			t.Errorf("after it: %v, %v, closed %v", lost, end, silent.isClosed())
		}
		c := e.resume(5, FirstLimit+5)
		time.Sleep(2 * confirmIn) // the clock of the first does not run for the second
		if lost, end := e.s.fate(); lost != nil || end != nil {
			t.Errorf("after it was confirmed: %v, %v", lost, end)
		}
		e.s.Reset(Reason{Code: "E_IDLE"})
		<-done
		leftovers(t, e.s, e.g, e.c, silent, c)
	})
}

// TestAckStall: who takes data inside the limit, answers PINGs and acknowledges nothing is told so; who answers nothing
// loses the carrier.
func TestAckStall(t *testing.T) {
	for _, answers := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			e := newApplianceEnd(t)
			done := deliver(t.Context(), e.s, &sink{})
			synctest.Wait()
			time.Sleep(time.Hour) // idle: nothing to acknowledge
			commit(t, e.s, "hello")
			patience := 2 * askPeer
			if answers {
				patience = ackStall
			}
			answered := 0
			for start := time.Now(); time.Since(start) < patience-time.Second; {
				time.Sleep(time.Second)
				synctest.Wait()
				if e.s.Vitals().Unanswered > 0 && answers {
					e.s.mu.Lock()
					ping := e.s.ping
					e.s.mu.Unlock()
					e.c.say(AppendProbe(nil, TypePong, ping))
					answered++
				}
			}
			if answers && answered < 5 || !has(e.c.told(), "PING") {
				t.Errorf("%d PINGs were answered, told %s", answered, e.c.told())
			}
			if lost, end := e.s.fate(); lost != nil || end != nil {
				t.Fatalf("answers %v: too early: %v, %v", answers, lost, end)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			lost, end := e.s.fate()
			switch {
			case answers && (codeOf(end) != "E_ACK_STALL" || !has(e.c.told(), "RESET code=E_ACK_STALL")):
				t.Errorf("ended with %v, told %s", end, e.c.told())
			case !answers && (lost == nil || end != nil || !e.c.isClosed() || has(e.c.told(), "RESET")):
				t.Errorf("lost %v, end %v, told %s", lost, end, e.c.told())
			}
			if !answers {
				c := e.resume(5, FirstLimit+5) // it has come back
				time.Sleep(time.Hour)
				if lost, end := e.s.fate(); lost != nil || end != nil {
					t.Errorf("an hour later: %v, %v", lost, end)
				}
				e.c = c
			}
			e.s.Reset(Reason{Code: "E_IDLE"})
			<-done
			leftovers(t, e.s, e.g, e.c)
		})
	}
}

// TestSupersededCarrier: the carrier before is told SUPERSEDED, unless a write to it was cut short: then it is closed.
func TestSupersededCarrier(t *testing.T) {
	for _, blocked := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			e := newApplianceEnd(t)
			done := deliver(t.Context(), e.s, &sink{})
			synctest.Wait()
			first := e.c
			first.setDeaf(blocked)
			commit(t, e.s, "hello") // its write hangs, if the client does not read
			synctest.Wait()
			start := time.Now()
			c := e.resume(0, FirstLimit)
			if took := time.Since(start); took > 0 || !has(c.told(), `DATA "hello"`) {
				t.Errorf("blocked %v: after %v the client was told %s", blocked, took, c.told())
			}
			first.setDeaf(false)
			if told := first.told(); has(told, "SUPERSEDED") == blocked {
				t.Errorf("blocked %v: the carrier before was told %s", blocked, told)
			}
			time.Sleep(2 * farewell)
			e.s.Reset(Reason{Code: "E_IDLE"})
			<-done
			leftovers(t, e.s, e.g, first, c)
		})
	}
}

// TestEndsWhileDetached: each way to end a flow that has no carrier, at both ends.
func TestEndsWhileDetached(t *testing.T) {
	ends := map[string]struct {
		end  func(*Stream)
		code Code
		in   time.Duration
	}{
		"Reset":  {func(s *Stream) { s.Reset(Reason{Code: "E_IDLE"}) }, "E_IDLE", 0},
		"GiveUp": {func(s *Stream) { s.GiveUp(Refuse("E_RESUME_EXPIRED", "gone", "")) }, "E_RESUME_EXPIRED", 0},
		"Close":  {func(s *Stream) { s.Close() }, Closed, closeGrace},
	}
	for name, c := range ends {
		for _, client := range []bool{true, false} {
			for _, reader := range []bool{true, false} {
				synctest.Test(t, func(t *testing.T) {
					var s *Stream
					var g *Governor
					var carrier *script
					var e *applianceEnd
					if client {
						e := newClientEnd(t)
						s, g, carrier = e.s, e.g, e.c
					} else {
						e = newApplianceEnd(t)
						s, g, carrier = e.s, e.g, e.c
					}
					if reader {
						done := deliver(t.Context(), s, &sink{})
						defer func() {
							if err := <-done; codeOf(err) != c.code {
								t.Errorf("%s: Deliver says %v", name, err)
							}
						}()
					} else {
						s.Read(nil)
					}
					commit(t, s, "hello")
					synctest.Wait()
					carrier.cut()
					synctest.Wait()
					if lost, end := s.fate(); lost == nil || end != nil {
						t.Fatalf("%s: not detached: %v, %v", name, lost, end)
					}
					within(t, name, 0, 0, func() { c.end(s) })
					within(t, name+"'s end", c.in, c.in, func() { <-s.Done() })
					synctest.Wait()
					if _, err := s.Reserve(t.Context()); codeOf(err) != c.code {
						t.Errorf("%s: Reserve says %v", name, err)
					}
					if _, end := s.Detached(t.Context()); codeOf(end) != c.code {
						t.Errorf("%s: Detached says %v", name, end)
					}
					if client {
						late := newScript(nil)
						if err := s.Resume(t.Context(), late, bondOf(9), WhyLost); codeOf(err) != c.code || !late.isClosed() {
							t.Errorf("%s: Resume says %v, closed %v", name, err, late.isClosed())
						}
					} else if done, late, _, _ := e.offer(0, FirstLimit); done != Over || has(late.told(), "RESUMED") {
						t.Errorf("%s: Attach says %v, %s", name, done, late.told())
					}
					leftovers(t, s, g, carrier)
				})
			}
		}
	}
}

// TestCloseWhileDetached: what was written before Close is not lost with the carrier, although somebody's bytes will not
// be taken; after it has arrived the peer is told of that.
func TestCloseWhileDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newApplianceEnd(t)
		e.s.Read(nil)
		e.c.say(data("nobody reads this"))
		commit(t, e.s, "hello")
		synctest.Wait()
		e.c.cut()
		synctest.Wait()
		e.s.Close()
		time.Sleep(time.Second)
		c := e.resume(0, FirstLimit)
		told := c.told()
		if !has(told, `DATA "hello"`) {
			t.Errorf("the client was told %s", told)
		}
		c.say(data("nobody reads this"))
		time.Sleep(time.Second)
		if told := c.told(); !has(told, "RESET code=E_CLOSED") {
			t.Errorf("at the end the client was told %s", told)
		}
		time.Sleep(closeGrace)
		synctest.Wait()
		leftovers(t, e.s, e.g, e.c, c)
	})
}

// TestHalfCloseWhileDetached: FIN is sent once there is a carrier again.
func TestHalfCloseWhileDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newClientEnd(t)
		done := deliver(t.Context(), e.s, &sink{})
		e.c.cut()
		synctest.Wait()
		commit(t, e.s, "hello")
		if err := e.s.CloseWrite(); err != nil {
			t.Error(err)
		}
		for n := range uint64(4) { // each time a little more has arrived, at last FIN too
			a := e.offer(t.Context())
			a.c.say(e.answer(a, 2*n, FirstLimit))
			synctest.Wait()
			if err := <-a.done; err != nil {
				t.Fatal(err)
			}
			e.confirmed(a)
			told := a.c.told()
			if n < 3 && (!has(told, "FIN offset=5") || !has(told, `DATA "`+"hello"[2*n:])) || n == 3 && (has(told, "FIN") || has(told, "DATA")) {
				t.Errorf("%d: the appliance was told %s", n, told)
			}
			if n == 3 {
				a.c.say(fin(0))
				if err := <-done; err != nil {
					t.Errorf("the flow ended with %v", err)
				}
				leftovers(t, e.s, e.g, e.c, a.c)
				break
			}
			a.c.cut()
			synctest.Wait()
		}
	})
}

// TestResumeCancelled: a context that has ended, or ends, leaves the flow as it was.
func TestResumeCancelled(t *testing.T) {
	enough := errors.New("enough")
	for name, deaf := range map[string]bool{"reads": false, "deaf": true} {
		for _, before := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				e := newClientEnd(t)
				done := deliver(t.Context(), e.s, &sink{})
				for range 20 {
					ctx, cancel := context.WithCancelCause(t.Context())
					c := newScript(nil)
					c.hold, c.deaf = true, deaf
					failed := make(chan error, 1)
					start := time.Now()
					if before {
						cancel(enough)
					}
					go func() { failed <- e.s.Resume(ctx, c, bondOf(1), WhyLost) }()
					synctest.Wait()
					cancel(enough)
					if err := <-failed; err != enough || !c.isClosed() {
						t.Errorf("%s, before %v: %v, closed %v", name, before, err, c.isClosed())
					}
					if took := time.Since(start); took > 0 {
						t.Errorf("%s, before %v: it took %v", name, before, took)
					}
				}
				if lost, end := e.s.fate(); lost != nil || end != nil || e.c.isClosed() {
					t.Errorf("the flow: %v, %v", lost, end)
				}
				e.s.Reset(Reason{Code: "E_IDLE"})
				<-done
			})
		}
	}
}

// TestResumeAnswers: what may come instead of RESUMED.
func TestResumeAnswers(t *testing.T) {
	other := &Resumed{Received: 5, Limit: 1 << 20, Nonce: make([]byte, 16), Proof: make([]byte, 32)}
	for name, c := range map[string]struct {
		say []byte
		is  func(error) bool
	}{
		"SUPERSEDED": {header(TypeSuperseded, 0), func(err error) bool { return err == ErrSuperseded }},
		"REFUSED":    {Append(nil, TypeRefused, &Reason{Code: "E_DENIED"}), func(err error) bool { return codeOf(err) == "E_DENIED" && remote(err) }},
		"RESET":      {Append(nil, TypeReset, &Reason{Code: "E_IDLE"}), func(err error) bool { return codeOf(err) == "E_IDLE" && remote(err) }},
		"forged":     {Append(nil, TypeResumed, other), func(err error) bool { return err != nil && !remote(err) }},
		"DATA":       {data("x"), func(err error) bool { return codeOf(err) == FrameType }},
		"ACK":        {ackFrame(0, 1<<20), func(err error) bool { return codeOf(err) == FrameType }},
		"OPENED":     {Append(nil, TypeOpened, &Opened{Flow: flowID, Session: sessionID}), func(err error) bool { return codeOf(err) == FrameType }},
		"nothing":    {nil, func(err error) bool { return codeOf(err) == Lost && !remote(err) }},
		"noise":      {[]byte("HTTP/1.1 502 Bad Gateway\r\n\r\n"), func(err error) bool { return err != nil && !remote(err) }},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := newClientEnd(t)
			done := deliver(t.Context(), e.s, &sink{})
			commit(t, e.s, "hello")
			synctest.Wait()
			a := e.offer(t.Context())
			a.c.say(join(AppendProbe(nil, TypePing, [8]byte{3}), header(0x91, 0), Append(nil, TypeNotice, &Notice{Text: "hm"}), c.say))
			if err := <-a.done; !c.is(err) || !a.c.isClosed() {
				t.Errorf("%s: %v, closed %v", name, err, a.c.isClosed())
			}
			if told := a.c.told(); !has(told, "PONG") && name != "noise" || has(told, "ACK") || has(told, "DATA") {
				t.Errorf("%s: the appliance was told %s", name, told)
			}
			e.c.say(data("still here"))
			time.Sleep(time.Second)
			if lost, end := e.s.fate(); lost != nil || end != nil || !has(e.c.told(), "ACK acked=10 ") {
				t.Errorf("%s: the flow: %v, %v, %s", name, lost, end, e.c.told())
			}
			e.s.Reset(Reason{Code: "E_IDLE"})
			<-done
			leftovers(t, e.s, e.g, e.c, a.c)
		})
	}
}

// TestStaleAnswer: of two attempts that were answered the client attaches first the one that the appliance holds to, loses
// it with the acknowledgement of what it has sent there, and then the other. It finds its way back.
func TestStaleAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newClientEnd(t)
		done := deliver(t.Context(), e.s, &sink{})
		synctest.Wait()
		e.c.cut()
		synctest.Wait()
		stale, kept := e.offer(t.Context()), e.offer(t.Context())
		late := e.answer(stale, 0, FirstLimit)
		kept.c.say(e.answer(kept, 0, FirstLimit))
		synctest.Wait()
		if err := <-kept.done; err != nil {
			t.Fatal(err)
		}
		e.confirmed(kept)
		commit(t, e.s, "hello") // and the appliance takes that
		e.s.CloseWrite()
		synctest.Wait()
		if !has(kept.c.told(), "FIN offset=5") {
			t.Fatalf("the appliance was told %s", kept.c.told())
		}
		stale.c.say(late)
		synctest.Wait()
		select {
		case err := <-stale.done:
			t.Fatalf("the second does not wait for the first: %v", err)
		default:
		}
		kept.c.cut()
		synctest.Wait()
		if err := <-stale.done; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stale.c.say(header(TypeSuperseded, 0))
		synctest.Wait()
		if lost, end := e.s.fate(); lost == nil || end != nil {
			t.Fatalf("the flow: %v, %v", lost, end)
		}
		for try := 1; ; try++ {
			a := e.offer(t.Context())
			if v := e.keys.judge(bondOf(a.n), a.r); v == unknown && try == 1 {
				a.c.say(Append(nil, TypeRefused, &Reason{Code: ResumeUnknown}))
				if err := <-a.done; remote(err) || err == nil {
					t.Fatal(err)
				}
				continue
			} else if v != proven {
				t.Fatalf("try %d is %d", try, v)
			}
			a.c.say(join(e.answer(a, 6, FirstLimit), fin(0)))
			if err := <-a.done; err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			e.confirmed(a)
			break
		}
		if err := <-done; err != nil {
			t.Errorf("the flow ended with %v", err)
		}
	})
}

// TestRefusedBeside: an attempt of two is refused while the other has the flow, or is about to: the flow lives on.
func TestRefusedBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newClientEnd(t)
		done := deliver(t.Context(), e.s, &sink{})
		synctest.Wait()
		a, b := e.offer(t.Context()), e.offer(t.Context())
		first, second := e.answer(a, 0, FirstLimit), e.answer(b, 0, FirstLimit)
		a.c.say(first)
		synctest.Wait()
		b.c.say(second)
		synctest.Wait()
		c := e.offer(t.Context()) // with the key of a, while the appliance holds to b
		a.c.say(header(TypeSuperseded, 0))
		synctest.Wait()
		if err := <-b.done; err != nil {
			t.Fatal(err)
		}
		e.confirmed(b)
		if v := e.keys.judge(bondOf(c.n), c.r); v != unknown {
			t.Fatalf("the third is %d", v)
		}
		c.c.say(Append(nil, TypeRefused, &Reason{Code: ResumeUnknown}))
		if err := <-c.done; err == nil || remote(err) {
			t.Errorf("the third says %v", err)
		}
		b.c.say(join(Append(nil, TypeNotice, &Notice{Text: "hm"}), ackFrame(0, FirstLimit))) // now the client knows
		synctest.Wait()
		d := e.offer(t.Context())
		d.c.say(e.answer(d, 0, FirstLimit))
		if err := <-d.done; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		e.confirmed(d)
		e.s.Reset(Reason{Code: "E_IDLE"})
		<-done
	})
}

// TestNoticeDoesNotSettle: an appliance may send a NOTICE before it has heard the confirming ACK. Its client does not take
// that for an answer to it.
func TestNoticeDoesNotSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newClientEnd(t)
		done := deliver(t.Context(), e.s, &sink{})
		synctest.Wait()
		e.c.cut()
		synctest.Wait()
		a := e.offer(t.Context())
		a.c.say(join(e.answer(a, 0, FirstLimit), Append(nil, TypeNotice, &Notice{Text: "hm"}), AppendProbe(nil, TypePing, [8]byte{1})))
		if err := <-a.done; err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.c.cut() // and the confirming ACK is lost, and so is what the appliance knew of the attempt
		synctest.Wait()
		e.keys.candidates = nil
		b := e.offer(t.Context())
		if v := e.keys.judge(bondOf(b.n), b.r); v != unknown {
			t.Fatalf("ahead: %d", v)
		}
		b.c.say(Append(nil, TypeRefused, &Reason{Code: ResumeUnknown}))
		if err := <-b.done; err == nil || remote(err) {
			t.Errorf("ahead: %v", err)
		}
		c := e.offer(t.Context())
		c.c.say(e.answer(c, 0, FirstLimit)) // at the epoch before
		if err := <-c.done; err != nil {
			t.Error(err)
		}
		e.s.Reset(Reason{Code: "E_IDLE"})
		<-done
	})
}

// TestAnswerToFinished: a client that has missed our last acknowledgement is answered, and while it does not hang up
// nobody else waits.
func TestAnswerToFinished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newApplianceEnd(t)
		done := deliver(t.Context(), e.s, &sink{})
		e.s.CloseWrite()
		synctest.Wait()
		e.c.say(join(ackFrame(1, FirstLimit), data("abc"), fin(3)))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		go func() {
			time.Sleep(time.Second)
			within(t, "Vitals", 0, 0, func() { e.s.Vitals() })
		}()
		if attached, _, _, d := e.offer(1, FirstLimit); attached != Answered || d == nil || d.Received != 4 {
			t.Errorf("attach: %v, %+v", attached, d)
		}
	})
}

// TestEarlyLoss: a client that has not shown that it knows of the flow cannot resume it.
func TestEarlyLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newScript(Append(nil, TypeOpen, &OpenRequest{Target: "db-1", Protocol: "ssh"}))
		c.hold = true
		in, err := Accept(t.Context(), c, Options{})
		if err != nil {
			t.Fatal(err)
		}
		in.Keep(bondOf(0), flowID, sessionID)
		s := in.Accept(Opened{Flow: flowID, Session: sessionID, Grace: 1000})
		done := deliver(t.Context(), s, &sink{})
		synctest.Wait()
		c.cut()
		if err := <-done; codeOf(err) != Lost {
			t.Errorf("the flow ended with %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		e := newClientEnd(t)
		if !has(e.c.told(), "ACK acked=0 ") {
			t.Errorf("after OPENED the appliance was told %s", e.c.told())
		}
		e.s.Close()
		time.Sleep(time.Minute)
	})
}

// TestIdleKept: a kept flow that is idle, or waits, holds no slab.
func TestIdleKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newApplianceEnd(t)
		done := deliver(t.Context(), e.s, &sink{})
		for range 3 {
			commit(t, e.s, strings.Repeat("x", 5000))
			e.c.say(data(strings.Repeat("y", 4000)))
			synctest.Wait()
			e.c.say(ackFrame(e.s.Vitals().Sent, 1<<20))
			time.Sleep(time.Second)
			e.c.cut()
			synctest.Wait()
			e.resume(e.s.Vitals().Sent, 1<<20)
			e.s.mu.Lock()
			if e.s.replay.len()+e.s.spill.len()+e.s.held != 0 || e.s.spare != nil || e.s.lent != nil || cap(e.s.out) > maxOut || e.s.writing {
				t.Errorf("replay %d, spill %d, held %d, spare %v, out %d", e.s.replay.len(), e.s.spill.len(), e.s.held, e.s.spare != nil, cap(e.s.out))
			}
			e.s.mu.Unlock()
		}
		e.s.Reset(Reason{Code: "E_IDLE"})
		if err := <-done; codeOf(err) != "E_IDLE" {
			t.Error(err)
		}
		leftovers(t, e.s, e.g, e.c)
	})
}

// TestStrangers: a RESUME that is not proven neither touches a living flow nor learns anything about it.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newApplianceEnd(t)
		k := &sink{}
		done := deliver(t.Context(), e.s, k)
		commit(t, e.s, "hello")
		synctest.Wait()
		e.c.say(ackFrame(5, FirstLimit+5))
		synctest.Wait()
		told := len(e.c.told())
		keys := e.s.keys.state()
		here := bondOf(9)
		eve, tablet, other := *here, *here, *bondOf(8)
		eve.User, tablet.Device = "eve", [32]byte{2}
		asked := 0
		for name, c := range map[string]struct {
			b      *Bond
			change func(*Resume)
			want   Attachment
		}{
			"another user":       {&eve, func(*Resume) {}, Unknown},
			"another device":     {&tablet, func(*Resume) {}, Unknown},
			"another connection": {&other, func(*Resume) {}, Unknown},
			"a later epoch":      {here, func(r *Resume) { r.Epoch++ }, Unknown},
			"an offset":          {here, func(r *Resume) { r.Received++ }, Unknown},
			"a limit":            {here, func(r *Resume) { r.Limit++ }, Unknown},
			"a nonce":            {here, func(r *Resume) { r.Nonce[0]++ }, Unknown},
			"a proof":            {here, func(r *Resume) { r.Proof[0]++ }, Unknown},
			"what is denied":     {here, func(*Resume) {}, Denied},
		} {
			_, r := e.ticket.try(here, 5, 1<<20)
			c.change(r)
			carrier := newScript(Append(nil, TypeResume, r))
			carrier.hold = true
			in, err := Accept(t.Context(), carrier, Options{Governor: e.g})
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.s.Attach(in, c.b, func() error {
				asked++
				return Refuse("E_DENIED", "no", "")
			})
			if got != c.want || (err != nil) != (c.want == Denied) || len(carrier.told()) > 0 {
				t.Errorf("%s: %v, %v, told %s", name, got, err, carrier.told())
			}
			in.Refuse(Refuse(ResumeUnknown, "there is no such flow", ""))
			if told := carrier.told(); len(told) != 1 || !strings.HasPrefix(told[0], "REFUSED code=E_RESUME_UNKNOWN") || !carrier.isClosed() {
				t.Errorf("%s: told %s", name, told)
			}
		}
		if asked != 1 {
			t.Errorf("policy was asked %d times", asked)
		}
		e.c.say(data("still here"))
		time.Sleep(time.Second)
		synctest.Wait()
		if k.got.String() != "still here" || len(e.c.told()) != told+1 || e.s.keys.state() != keys || e.s.Vitals().Attached != 1 {
			t.Errorf("the flow: %q, told %s, attached %d", k.got.String(), e.c.told(), e.s.Vitals().Attached)
		}
		e.s.Reset(Reason{Code: "E_IDLE"})
		<-done
		leftovers(t, e.s, e.g, e.c)
	})
}

// TestTwoAtOnce: while one good RESUME waits for the old carrier's writer another one comes: the first to be ready has the
// flow, the other is told, and both are answered for the epoch that they named.
func TestTwoAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newApplianceEnd(t)
		release := make(chan struct{})
		k := &slowTake{release: release}
		done := deliver(t.Context(), e.s, k)
		synctest.Wait()
		e.c.say(data("abc")) // the next hop is at work on it
		synctest.Wait()

		// One was answered before, so that there is a candidate for the second to confirm.
		first, r := e.ticket.try(bondOf(1), 0, FirstLimit)
		var d Resumed
		e.s.mu.Lock()
		e.s.keys.answer(bondOf(1), r, &d)
		e.s.mu.Unlock()
		results := make(chan Attachment, 2)
		attach := func(b *Bond, r *Resume) *script {
			c := newScript(Append(nil, TypeResume, r))
			c.hold = true
			in, err := Accept(t.Context(), c, Options{})
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				got, _ := e.s.Attach(in, b, func() error { return nil })
				if got == LostRace {
					in.Supersede()
				}
				results <- got
			}()
			synctest.Wait()
			return c
		}
		_, old := e.ticket.try(bondOf(2), 0, FirstLimit)
		one := attach(bondOf(2), old) // at epoch 0
		e.ticket.attach(bondOf(1), first, &d)
		now, ahead := e.ticket.try(bondOf(3), 0, FirstLimit)
		two := attach(bondOf(3), ahead) // at epoch 1, which it confirms
		close(release)
		x, y := <-results, <-results
		if x == y || x != Attached && x != LostRace || y != Attached && y != LostRace {
			t.Errorf("%v and %v", x, y)
		}
		synctest.Wait()
		if !has(one.told(), "SUPERSEDED") || !has(two.told(), "RESUMED received=3 ") {
			t.Errorf("told %s and %s", one.told(), two.told())
		}
		if err := Parse(TypeResumed, two.find(TypeResumed), &d); err != nil || !now.verify(bondOf(3), ahead, &d) {
			t.Errorf("the answer is not valid: %v", err)
		}
		e.s.Reset(Reason{Code: "E_IDLE"})
		<-done
		time.Sleep(time.Minute)
		leftovers(t, e.s, e.g, e.c, one, two)
	})
}

// slowTake is a next hop whose Take hangs, which it should not.
type slowTake struct {
	sink
	release chan struct{}
}

func (k *slowTake) Take(p []byte) (int, error) {
	<-k.release
	return k.sink.Take(p)
}

// FuzzConfirm: whatever a client says after RESUMED, and whatever an appliance says instead of it, nothing panics, hangs
// or is kept.
func FuzzConfirm(f *testing.F) {
	for _, e := range examples(f) {
		f.Add(e.frame)
	}
	f.Add(join(ackFrame(0, FirstLimit), data("x")))
	f.Add(join(Ack{Limit: FirstLimit, Nonces: []nonce{{}}}.Append(nil), data("x"), fin(1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		synctest.Test(t, func(t *testing.T) {
			e := newApplianceEnd(t)
			done := deliver(t.Context(), e.s, &sink{})
			commit(t, e.s, "hello")
			_, c, a, d := e.offer(0, FirstLimit)
			if d == nil {
				t.Fatal("not answered")
			}
			if len(b) >= HeaderSize+32 && Type(b[0]) == TypeAck { // an honest list, so that more is reached
				_, listed := e.ticket.attach(bondOf(e.n), a, d)
				copy(b[HeaderSize+16:], listed[0][:])
			}
			c.mu.Lock()
			c.hold = false
			c.mu.Unlock()
			c.say(b)
			time.Sleep(time.Minute)
			e.s.Reset(Reason{Code: "E_IDLE"})
			<-done
			time.Sleep(time.Minute)
			synctest.Wait()
			leftovers(t, e.s, e.g, e.c, c)
		})
		synctest.Test(t, func(t *testing.T) {
			e := newClientEnd(t)
			done := deliver(t.Context(), e.s, &sink{})
			a := e.offer(t.Context())
			a.c.mu.Lock()
			a.c.hold = false
			a.c.mu.Unlock()
			if len(b)%2 == 0 {
				a.c.say(e.answer(a, 0, FirstLimit))
			}
			a.c.say(b)
			<-a.done
			time.Sleep(time.Minute)
			e.s.Reset(Reason{Code: "E_IDLE"})
			<-done
			time.Sleep(time.Minute)
			synctest.Wait()
			leftovers(t, e.s, e.g, e.c, a.c)
		})
	})
}
