package frame

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// flow is a stream over a script whose peer waits, with a governor to check.
func flow(say ...[]byte) (*Stream, *script, *Governor) {
	c := newScript(join(say...))
	c.hold = true
	g := NewGovernor(allRoom)
	return newStream(c, Options{Governor: g}), c, g
}

// deliver runs Deliver and returns what it will return.
func deliver(ctx context.Context, s *Stream, k Taker) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.Deliver(ctx, k) }()
	return done
}

func within(t *testing.T, what string, least, most time.Duration, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took < least || took > most {
		t.Errorf("%s took %v, want %v to %v", what, took, least, most)
	}
}

func TestAckDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c, g := flow(data("hello"))
		done := deliver(t.Context(), s, &sink{})
		time.Sleep(ackDelay - 1)
		synctest.Wait()
		if got := c.told(); len(got) != 0 {
			t.Errorf("too early: %s", got)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if got := c.told(); !slices.Equal(got, []string{"ACK acked=5 limit=16389"}) {
			t.Errorf("after the delay: %s", got)
		}

		// Much is acknowledged at once, and so is FIN; an ACK rides before data.
		c.say(data(strings.Repeat("x", 8<<10)))
		synctest.Wait()
		if got := c.told(); len(got) != 2 || !strings.HasPrefix(got[1], "ACK acked=8197 ") {
			t.Errorf("after 8 KiB: %s", got)
		}
		c.say(data("abc"))
		synctest.Wait()
		commit(t, s, "answer")
		synctest.Wait()
		if got := c.told(); len(got) != 4 || !strings.HasPrefix(got[2], "ACK acked=8200 ") || got[3] != `DATA "answer"` {
			t.Errorf("with data: %s", got)
		}
		c.say(fin(8200))
		synctest.Wait()
		if got := c.told(); len(got) != 5 || !strings.HasPrefix(got[4], "ACK acked=8201 ") {
			t.Errorf("after FIN: %s", got)
		}
		s.Reset(Reason{Code: "E_IDLE"})
		<-done
		over(t, s, c, g)
	})
}

// TestFarewell: a flow that is over in order waits a moment for a peer that does not hang up.
func TestFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c, g := flow(fin(0), ackFrame(1, FirstLimit))
		s.CloseWrite()
		synctest.Wait() // FIN has left
		within(t, "the farewell", farewell, 2*farewell, func() {
			if err := s.Deliver(t.Context(), &sink{}); err != nil {
				t.Error(err)
			}
		})
		over(t, s, c, g)
	})

	// The peer stops reading before the last ACK has left.
	synctest.Test(t, func(t *testing.T) {
		s, c, g := flow()
		done := deliver(t.Context(), s, &sink{})
		s.CloseWrite()
		synctest.Wait()
		c.mu.Lock()
		c.deaf = true
		c.mu.Unlock()
		c.say(join(ackFrame(1, FirstLimit), fin(0)))
		within(t, "the end", 0, lastWrites+2*farewell, func() {
			if err := <-done; err != nil && codeOf(err) != Lost {
				t.Error(err)
			}
		})
		over(t, s, c, g)
	})
}

// TestDeafPeer: a peer that does not read holds nothing for longer than the last writes may take.
func TestDeafPeer(t *testing.T) {
	start := func(t *testing.T, ctx context.Context, k Taker) (*Stream, *script, *Governor, <-chan error) {
		s, c, g := flow()
		c.deaf = true
		done := deliver(ctx, s, k)
		commit(t, s, "hello")
		synctest.Wait()
		return s, c, g, done
	}
	t.Run("Cancelled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			s, c, g, done := start(t, ctx, &sink{})
			idle := errors.New("idle")
			cancel(idle)
			within(t, "Deliver", 0, 0, func() {
				if err := <-done; err != idle {
					t.Errorf("Deliver says %v", err)
				}
			})
			within(t, "Reset", 0, lastWrites+farewell, func() { s.Reset(Reason{Code: "E_IDLE"}) })
			over(t, s, c, g)
		})
	})
	t.Run("HangsUp", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, c, g, done := start(t, t.Context(), &sink{})
			c.mu.Lock()
			c.hold = false // EOF, but what we write stays stuck
			c.changed.Broadcast()
			c.mu.Unlock()
			within(t, "Deliver", 0, lastWrites, func() {
				if err := <-done; codeOf(err) != Lost {
					t.Errorf("Deliver says %v", err)
				}
			})
			over(t, s, c, g)
		})
	})
	t.Run("Resets", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, c, g, done := start(t, t.Context(), &sink{})
			c.say(Append(nil, TypeReset, &Reason{Code: "E_IDLE", Sentence: "so\x1b[31m long"}))
			within(t, "Deliver", 0, lastWrites, func() {
				if err := <-done; codeOf(err) != "E_IDLE" || !remote(err) || strings.Contains(err.Error(), "\x1b") {
					t.Errorf("Deliver says %v", err)
				}
			})
			over(t, s, c, g)
		})
	})
	t.Run("Close", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, c, g := flow()
			c.deaf = true
			if _, err := s.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			s.Close()
			time.Sleep(closeGrace + lastWrites + 2*farewell)
			synctest.Wait()
			over(t, s, c, g)
		})
	})
	t.Run("Refuse", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := newScript(Append(nil, TypeOpen, &OpenRequest{Target: "db-1", Protocol: "ssh"}))
			c.hold, c.deaf = true, true
			in, err := Accept(t.Context(), c, Options{})
			if err != nil {
				t.Fatal(err)
			}
			within(t, "Refuse", 0, lastWrites+farewell, func() { in.Refuse(Refuse("E_DENIED", "no", "")) })
		})
	})
}

func TestClose(t *testing.T) {
	// In order, as far as the peer goes along.
	t.Run("NobodyAnswers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, c, g := flow()
			io.WriteString(s, "hello")
			s.Close()
			time.Sleep(closeGrace - 1)
			synctest.Wait()
			if got := c.told(); !slices.Equal(got, []string{`DATA "hello"`, "FIN offset=5"}) {
				t.Errorf("within the grace: %s", got)
			}
			time.Sleep(1 + 2*farewell)
			synctest.Wait()
			if got := c.told(); len(got) != 3 || !strings.HasPrefix(got[2], "RESET code=E_CLOSED") {
				t.Errorf("after the grace: %s", got)
			}
			over(t, s, c, g)
		})
	})
	// What nobody took is not acknowledged: the peer learns that it is lost, after our own bytes.
	t.Run("Unread", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, c, g := flow(data("unread"), fin(6))
			c.deaf = true // until Close has been called
			io.WriteString(s, "hello")
			synctest.Wait()
			s.Close()
			synctest.Wait()
			c.mu.Lock()
			c.deaf = false
			c.changed.Broadcast()
			c.mu.Unlock()
			time.Sleep(2 * farewell)
			synctest.Wait()
			got := c.told()
			if len(got) < 2 || got[0] != `DATA "hello"` || !strings.HasPrefix(got[len(got)-1], "RESET code=E_CLOSED") {
				t.Errorf("the peer was told %s", got)
			}
			for _, f := range got {
				if strings.HasPrefix(f, "ACK") && !strings.HasPrefix(f, "ACK acked=0 ") {
					t.Errorf("nobody read it: %s", f)
				}
			}
			over(t, s, c, g)
		})
	})
	t.Run("ReadToTheEnd", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, c, g := flow(data("all"), fin(3))
			if got, err := io.ReadAll(s); string(got) != "all" || err != nil {
				t.Errorf("read %q, %v", got, err)
			}
			s.Close()
			synctest.Wait()
			c.say(ackFrame(1, FirstLimit))
			time.Sleep(2 * farewell)
			synctest.Wait()
			for _, f := range c.told() {
				if strings.HasPrefix(f, "RESET") {
					t.Errorf("the peer was told %s", f)
				}
			}
			over(t, s, c, g)
		})
	})
	// Beside a Deliver whose next hop is stuck with a slab.
	for name, k := range map[string]*sink{"BesideDeliver": {blocked: true}, "BesideDeliverFree": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c, g := flow(data("one"), data(strings.Repeat("x", 9000)))
				done := deliver(t.Context(), s, k)
				synctest.Wait()
				s.Close()
				synctest.Wait()
				c.say(data("late"))
				within(t, "Deliver", 0, closeGrace+lastWrites+2*farewell, func() {
					if err := <-done; codeOf(err) != Closed {
						t.Errorf("Deliver says %v", err)
					}
				})
				over(t, s, c, g)
				if got := k.got.String(); strings.Contains(got, "late") {
					t.Error("the next hop was given bytes after Close")
				}
			})
		})
	}
	t.Run("AfterCutOffDeliver", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, c, g := flow(data("whole"), header(TypeData, 100), []byte("half of it"))
			ctx, cancel := context.WithCancel(t.Context())
			done := deliver(ctx, s, &sink{})
			synctest.Wait()
			cancel()
			<-done
			if err := s.Deliver(t.Context(), &sink{}); err == nil {
				t.Error("a second Deliver went on within a frame")
			}
			within(t, "Close", 0, lastWrites+farewell, func() { s.Close() })
			if got := c.told(); !strings.HasPrefix(got[len(got)-1], "RESET code=E_CLOSED") {
				t.Errorf("the peer was told %s", got)
			}
			over(t, s, c, g)
		})
	})
	// A commit that races with a close: no data after FIN.
	t.Run("WithinReserve", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, c, g := flow()
			b, err := s.Reserve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			s.Close()
			synctest.Wait()
			if err := s.Commit(copy(b, "late")); err == nil {
				t.Error("no error")
			}
			time.Sleep(closeGrace + 2*farewell)
			synctest.Wait()
			if got := c.told(); got[0] != "FIN offset=0" {
				t.Errorf("the peer was told %s", got)
			}
			over(t, s, c, g)
		})
	})
}

// TestNextHopFails: Deliver says so, and Reset tells the peer.
func TestNextHopFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c, g := flow(data("hello"))
		broken := errors.New("connection reset by peer")
		if err := s.Deliver(t.Context(), &sink{err: broken}); err != broken {
			t.Errorf("Deliver says %v", err)
		}
		s.Reset(Reason{Code: "E_TARGET_RESET", Sentence: "the target reset the connection"})
		if got := c.told(); len(got) != 1 || got[0] != `RESET code=E_TARGET_RESET sentence="the target reset the connection"` {
			t.Errorf("the peer was told %s", got)
		}
		over(t, s, c, g)
	})
}

// TestReadAfterEnd: what arrived before the end can still be read, and costs the governor nothing.
func TestReadAfterEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c, g := flow()
		c.say(data(strings.Repeat("x", FirstLimit)))
		s.listen()
		synctest.Wait()
		c.mu.Lock()
		c.hold = false
		c.changed.Broadcast()
		c.mu.Unlock()
		synctest.Wait()
		b, err := io.ReadAll(s)
		if len(b) != FirstLimit || codeOf(err) != Lost {
			t.Errorf("read %d bytes, %v", len(b), err)
		}
		s.Close()
		over(t, s, c, g)
	})
}

// TestOpenCancelled: the context ends while the appliance thinks.
func TestOpenCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, deaf := range []bool{false, true} {
			c := newScript(nil)
			c.hold, c.deaf = true, deaf
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, _, err := Open(ctx, c, OpenRequest{Target: "db-1", Protocol: "ssh"}, Options{})
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || !c.closed {
				t.Errorf("Open says %v, closed %v", err, c.closed)
			}
		}
	})
}

// TestAcceptRefuses: what a client can begin with, and what it is told.
func TestAcceptRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		say  []byte
		code Code
	}{
		"DATA":          {data("x"), FrameType},
		"FIN":           {fin(0), FrameType},
		"unknown":       {header(0x44, 0), FrameType},
		"OPEN too long": {header(TypeOpen, maxControl+1), FrameSize},
		"ACK of FIN":    {ackFrame(1, FirstLimit), AckBad},
	} {
		synctest.Test(t, func(t *testing.T) {
			carrier := newScript(join(AppendProbe(nil, TypePing, [8]byte{1}), c.say))
			carrier.hold = true
			in, err := Accept(t.Context(), carrier, Options{})
			if in != nil || codeOf(err) != c.code {
				t.Errorf("%s: %v", name, err)
			}
			told := carrier.told()
			if last := told[len(told)-1]; !strings.HasPrefix(last, "REFUSED code="+string(c.code)) || !carrier.closed {
				t.Errorf("%s: the client was told %s, closed %v", name, told, carrier.closed)
			}
		})
	}
}
