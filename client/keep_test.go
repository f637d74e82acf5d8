package client

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/frame"
	"sallyport/frame/frametest"
	"sallyport/transport"
)

// A voyage is a kept flow whose network a test can break.
type voyage struct {
	*frametest.Broker
	*keeper
	client, appliance *frame.Stream
	hole              atomic.Bool                       // what the client sends is lost without a word
	down              atomic.Bool                       // new connections come to nothing
	refusal           atomic.Pointer[frame.StreamError] // a way that seems better refuses the flow
	wanted            atomic.Bool                       // there has been one
	onHTTPS           atomic.Bool
	noHTTPS           atomic.Bool // a flow that moves much is not moved to HTTPS
	whys              []frame.Why // of tries
	tries             []time.Duration
	sleep             atomic.Int64 // by the wall
	here              atomic.Pointer[netip.Addr]
	mu                sync.Mutex
	said              []string
	began             time.Time
}

// holed is a carrier that the network may swallow.
type holed struct {
	frame.Carrier
	hole *atomic.Bool
}

func (h holed) Write(p []byte) (int, error) {
	if h.hole.Load() {
		return len(p), nil
	}
	return h.Carrier.Write(p)
}

// sail runs a test with a flow that a keeper holds up.
func sail(t *testing.T, grace time.Duration, test func(t *testing.T, v *voyage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		v := &voyage{began: time.Now()}
		v.Broker = &frametest.Broker{T: t, Wrap: func(c, a *frametest.PipeCarrier) (frame.Carrier, frame.Carrier) {
			return holed{c, &v.hole}, a
		}}
		v.client, v.appliance = v.Open()
		go io.Copy(io.Discard, v.client)
		go io.Copy(io.Discard, v.appliance)
		v.here.Store(&netip.Addr{})
		v.keeper = &keeper{stream: v.client, grace: grace, rejoin: v.rejoin,
			better: func() bool {
				if v.refusal.Load() != nil {
					v.wanted.Store(true)
				}
				return v.wanted.Load()
			},
			where:  func() netip.Addr { return *v.here.Load() },
			onQUIC: v.quic, bulk: &bulk{},
			wall: func() time.Time { return time.Now().Add(time.Duration(v.sleep.Load())) },
			tell: func(line string) {
				v.mu.Lock()
				defer v.mu.Unlock()
				v.said = append(v.said, line)
			}}
		ctx, cancel := context.WithCancel(t.Context())
		var kept sync.WaitGroup
		kept.Go(func() { v.run(ctx) })
		time.Sleep(time.Minute)
		test(t, v)
		cancel()
		kept.Wait()
		v.client.GiveUp(io.ErrClosedPipe)
		v.appliance.GiveUp(io.ErrClosedPipe)
		v.Wait()
	})
}

func (v *voyage) rejoin(ctx context.Context, _ time.Time, why frame.Why) error {
	v.mu.Lock()
	v.tries = append(v.tries, time.Since(v.began))
	v.whys = append(v.whys, why)
	v.mu.Unlock()
	if refusal := v.refusal.Load(); refusal != nil {
		return refusal
	}
	v.wanted.Store(false)
	if v.down.Load() || why == frame.WhyBulk && v.noHTTPS.Load() {
		return errors.New("network is unreachable")
	}
	v.hole.Store(false)
	c, bond := v.Offer()
	err := v.client.Resume(ctx, c, bond, why)
	if err == nil {
		v.onHTTPS.Store(why == frame.WhyBulk)
	}
	return err
}

func (v *voyage) quic() bool { return !v.onHTTPS.Load() }

// moved is how long after now the first attempt to leave the connection began.
func (v *voyage) moved(t *testing.T, most time.Duration) {
	t.Helper()
	v.mu.Lock()
	before := len(v.tries)
	v.mu.Unlock()
	now := time.Since(v.began)
	time.Sleep(most)
	synctest.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.tries) == before {
		t.Fatalf("nothing was tried in %v", most)
	}
	t.Logf("an attempt after %v", v.tries[before]-now)
}

func TestKeeper(t *testing.T) {
	attached := func(t *testing.T, v *voyage, n int) {
		t.Helper()
		time.Sleep(time.Second)
		if got := v.client.Vitals(); got.Attached != n || got.Lost != nil {
			t.Errorf("%d connections, lost by %v; want %d", got.Attached, got.Lost, n)
		}
	}
	t.Run("Idle", func(t *testing.T) {
		sail(t, time.Hour, func(t *testing.T, v *voyage) {
			time.Sleep(time.Hour)
			attached(t, v, 1)
			if v.client.Vitals().Silent > idleProbe+time.Second {
				t.Error("nobody has asked")
			}
		})
	})
	t.Run("Broken", func(t *testing.T) {
		sail(t, time.Hour, func(t *testing.T, v *voyage) {
			v.Cut()
			v.moved(t, time.Millisecond)
			attached(t, v, 2)
		})
	})
	t.Run("SilentBusy", func(t *testing.T) {
		sail(t, time.Hour, func(t *testing.T, v *voyage) {
			v.hole.Store(true)
			io.WriteString(v.client, "typed")
			v.moved(t, 2500*time.Millisecond)
			attached(t, v, 2)
		})
	})
	t.Run("SilentIdle", func(t *testing.T) {
		sail(t, time.Hour, func(t *testing.T, v *voyage) {
			v.hole.Store(true)
			v.moved(t, 12*time.Second)
			attached(t, v, 2)
		})
	})
	// The wall clock jumps, the monotonic one has stood still: as laptops sleep.
	t.Run("Suspended", func(t *testing.T) {
		sail(t, time.Hour, func(t *testing.T, v *voyage) {
			v.hole.Store(true)
			v.sleep.Store(int64(10 * time.Minute))
			v.moved(t, time.Second)
			attached(t, v, 2)
		})
	})
	t.Run("SuspendedForNothing", func(t *testing.T) {
		sail(t, time.Hour, func(t *testing.T, v *voyage) {
			v.sleep.Store(int64(10 * time.Minute))
			time.Sleep(time.Minute)
			attached(t, v, 1)
		})
	})
	t.Run("AnotherNetwork", func(t *testing.T) {
		sail(t, time.Hour, func(t *testing.T, v *voyage) {
			v.hole.Store(true)
			home := netip.MustParseAddr("192.0.2.7")
			v.here.Store(&home)
			v.moved(t, time.Second)
			attached(t, v, 2)
		})
	})
	t.Run("ToldLate", func(t *testing.T) {
		sail(t, time.Hour, func(t *testing.T, v *voyage) {
			for _, outage := range []time.Duration{2 * time.Second, 14 * time.Second} {
				v.down.Store(true)
				v.Cut()
				time.Sleep(outage)
				v.down.Store(false)
				time.Sleep(10 * time.Second)
			}
			attached(t, v, 3)
			if len(v.said) != 2 || v.said[0] != "connection lost, resuming…" || !strings.HasPrefix(v.said[1], "connected again after 1") {
				t.Errorf("the person was told %q", v.said)
			}
		})
	})
	// A better way that is refused is no reason to give up the one that there is, nor to ask again and again.
	t.Run("BetterRefused", func(t *testing.T) {
		sail(t, time.Hour, func(t *testing.T, v *voyage) {
			v.refusal.Store(&frame.StreamError{Reason: frame.Reason{Code: frame.ResumeUnknown}, Remote: true})
			time.Sleep(time.Minute)
			attached(t, v, 1)
			if n := len(v.tries); n < 2 || n > 15 {
				t.Errorf("%d attempts in a minute", n)
			}
			v.refusal.Store(nil)
			time.Sleep(10 * time.Second)
			attached(t, v, 2)
		})
	})
	t.Run("Expired", func(t *testing.T) {
		sail(t, 5*time.Minute, func(t *testing.T, v *voyage) {
			v.down.Store(true)
			v.Cut()
			time.Sleep(6 * time.Minute)
			if r, _ := frame.ReasonOf(v.client.Vitals().End); r.Code != "E_RESUME_EXPIRED" {
				t.Errorf("the flow ended with %v", v.client.Vitals().End)
			}
			if n := len(v.tries); n < 100 || n > 400 {
				t.Errorf("%d attempts in five minutes", n)
			}
		})
	})
	t.Run("Refused", func(t *testing.T) {
		sail(t, time.Hour, func(t *testing.T, v *voyage) {
			v.appliance.GiveUp(frame.Refuse("E_IDLE", "nothing moved", ""))
			time.Sleep(time.Second)
			if r, _ := frame.ReasonOf(v.client.Vitals().End); r.Code != "E_IDLE" {
				t.Errorf("the flow ended with %v", v.client.Vitals().End)
			}
		})
	})
}

// TestHopeless: what ends a flow that has lost its connection, and what is only the network.
func TestHopeless(t *testing.T) {
	remote := func(code frame.Code) error { return &frame.StreamError{Reason: frame.Reason{Code: code}, Remote: true} }
	session := func(code frame.Code) error {
		return &transport.PathError{Attempts: []transport.Attempt{{Err: &frame.SessionError{Reason: frame.Reason{Code: code}, Remote: true}}}}
	}
	for _, err := range []error{remote(frame.ResumeUnknown), remote("E_DENIED"), remote("E_RESUME_EXPIRED"), session("E_DEVICE_REVOKED"), session(frame.VersionSkew)} {
		if !hopeless(err) {
			t.Errorf("%v: tried again", err)
		}
	}
	for _, err := range []error{io.EOF, context.DeadlineExceeded, remote("E_BUSY"), remote(frame.Draining), session(frame.Inspected), session("E_PROXY_AUTH"),
		session("E_BUSY"), frame.Refuse(frame.Lost, "lost", ""), frame.ErrSuperseded, certificateError("a hotel's", "")} {
		if hopeless(err) {
			t.Errorf("%v: given up", err)
		}
	}
}
