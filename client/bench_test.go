package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/client"
	"sallyport/client/clienttest"
	"sallyport/frame"
	"sallyport/transport"
)

// benchOf is a Bench of a, short.
func benchOf(t *testing.T, a *clienttest.Appliance) *client.Bench {
	t.Helper()
	home := signedIn(t, a)
	p, err := home.Profile("")
	if err != nil {
		t.Fatal(err)
	}
	return &client.Bench{Home: home, Profile: p, Time: client.MinBench}
}

// slowTarget says after a while who it is.
func slowTarget(c net.Conn) {
	time.Sleep(50 * time.Millisecond)
	io.WriteString(c, "SSH-2.0-slow\r\n")
	io.Copy(io.Discard, c)
}

func TestBench(t *testing.T) {
	a := clienttest.Start(t, clienttest.Config{Serve: map[string]func(net.Conn){"slow": slowTarget}})
	b := benchOf(t, a)
	b.Target = &frame.OpenRequest{Target: "slow", Port: 2222, Protocol: "ssh"}
	var steps []string
	b.Step = func(transport, what string) { steps = append(steps, transport+" "+what) }
	r, err := b.Measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Target != "slow:2222" || r.Time != client.MinBench || r.Bound != 1e12 || !strings.HasPrefix(r.Verdict, "Good for typing") || len(r.Ways) != 2 {
		t.Errorf("%+v", r)
	}
	for i, mode := range []string{"quic", "https"} {
		w := r.Ways[i]
		if w.Transport != mode || w.Failure != nil || w.Connect <= 0 || w.Open <= 0 || w.Target <= 0 || w.Banner < w.Target+40*time.Millisecond ||
			w.RoundTrips.P50 <= 0 || w.RoundTrips.P99 < w.RoundTrips.P50 || w.RoundTrips.Count < 2 || w.Down < 1e6 || w.Up < 1e6 {
			t.Errorf("%+v", w)
		}
	}
	if want := []string{"quic connecting", "quic opening flows", "quic opening flows to slow:2222", "quic round trips", "quic down", "quic up"}; !slices.Equal(steps[:6], want) || len(steps) != 12 {
		t.Errorf("steps: %q", steps)
	}
	shape, _ := json.Marshal(r)
	for _, key := range []string{"time_ns", "bound_bits_per_second", "connect_ns", "p50_ns", "p99_ns", "jitter_ns", "open_ns", "down_bits_per_second",
		"up_bits_per_second", "target_open_ns", "target_first_byte_ns", "verdict"} {
		if !strings.Contains(string(shape), `"`+key+`":`) {
			t.Errorf("there is no %s in %s", key, shape)
		}
	}
}

// TestBenchWithoutBanner: of a port that does not speak SSH nothing is wanted but that it accepts.
func TestBenchWithoutBanner(t *testing.T) {
	b := benchOf(t, clienttest.Start(t, clienttest.Config{}))
	b.Options.Transport = transport.QUIC
	b.Target = &frame.OpenRequest{Target: "echo", Protocol: "tcp"}
	r, err := b.Measure(t.Context())
	if err != nil || len(r.Ways) != 1 || r.Target != "echo" || r.Ways[0].Target <= 0 || r.Ways[0].Banner != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestBenchFails: what cannot be measured is said as other commands say it.
func TestBenchFails(t *testing.T) {
	mute := func(c net.Conn) { c.Close() }
	for what, c := range map[string]struct {
		config clienttest.Config
		target string
		code   frame.Code
	}{
		"an old appliance":           {clienttest.Config{Old: true}, "", frame.VersionSkew},
		"a denied target":            {clienttest.Config{}, "denied", "E_DENIED"},
		"a target that is not there": {clienttest.Config{}, "refused", "E_REFUSED"},
		"one that hangs up":          {clienttest.Config{Serve: map[string]func(net.Conn){"mute": mute}}, "mute", frame.Lost},
	} {
		t.Run(what, func(t *testing.T) {
			b := benchOf(t, clienttest.Start(t, c.config))
			if c.target != "" {
				b.Target = &frame.OpenRequest{Target: c.target, Protocol: "ssh"}
			}
			r, err := b.Measure(t.Context())
			if f := client.Explain(err); r != nil || f.Code != c.code || f.Sentence == "" {
				t.Errorf("%+v, %+v", r, f)
			}
		})
	}
}

// TestBenchStops: Ctrl-C ends each step at once.
func TestBenchStops(t *testing.T) {
	b := benchOf(t, clienttest.Start(t, clienttest.Config{}))
	b.Time = client.MaxBench
	for _, step := range []string{"connecting", "opening flows", "round trips", "down", "up"} {
		t.Run(step, func(t *testing.T) {
			if step == "down" || step == "up" {
				b.Time = 500 * time.Millisecond
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var stopped time.Time
			b.Step = func(_, what string) {
				if what == step {
					stopped = time.Now()
					time.AfterFunc(20*time.Millisecond, cancel)
				}
			}
			if _, err := b.Measure(ctx); !errors.Is(err, context.Canceled) || time.Since(stopped) > 2*time.Second {
				t.Errorf("after %v: %v", time.Since(stopped), err)
			}
		})
	}
}
