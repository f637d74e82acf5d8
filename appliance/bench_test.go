package appliance

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/appliance/api"
	"sallyport/frame"
	"sallyport/frame/frametest"
	"sallyport/relay"
)

// benchSite is a site where ann and bob may measure, and its log.
func benchSite(t *testing.T) (*site, *watched) {
	s := newSite(t)
	log := &watched{}
	s.Log = slog.New(slog.NewTextHandler(log, nil))
	s.SetPolicy(s.parse("bench: [ann, bob, carl]\n" + siteAccess))
	return s, log
}

func bench(service string) frame.OpenRequest {
	return frame.OpenRequest{Target: service, Protocol: "bench"}
}

// TestBenchServices: the services do what they are called, nothing is dialled or looked up, no connection is outlived,
// and the log and the metrics say what moved.
func TestBenchServices(t *testing.T) {
	s, log := benchSite(t)
	s.VNets = nil
	for _, c := range []struct {
		service, say string
		hear         int // bytes of a source that are waited for
		line         string
	}{
		{"echo", strings.Repeat("typed ", 4000), 24000, " up=24000 down=24000 "},
		{"sink", strings.Repeat("x", 1<<20), 0, " up=1048576 down=0 "},
		{"source", "", 1 << 20, ""},
	} {
		f, opened, err := s.open(bench(c.service))
		if err != nil {
			t.Fatalf("%s: %v", c.service, err)
		}
		if opened.Target != c.service || opened.Rule != "bench" || opened.Grace != 0 || opened.Lifetime != (30*time.Second).Milliseconds() {
			t.Errorf("%s: opened %+v", c.service, opened)
		}
		said := make(chan error, 1)
		go func() { _, err := io.WriteString(f, c.say); said <- err }()
		heard := make([]byte, c.hear)
		if _, err := io.ReadFull(f, heard); err != nil {
			t.Errorf("%s: %v", c.service, err)
		}
		if c.service == "echo" && string(heard) != c.say || c.service == "source" && strings.Trim(string(heard), "\x00") != "" {
			t.Errorf("%s says %.40q", c.service, heard)
		}
		if err := <-said; err != nil {
			t.Errorf("%s: %v", c.service, err)
		}
		f.CloseWrite()
		if rest, err := io.Copy(io.Discard, f); err != nil || rest > 0 && c.service != "source" {
			t.Errorf("%s ends after %d bytes more with %v", c.service, rest, err)
		}
		f.Close()
		s.Gateway.relays.Wait()
		text := log.String()
		if last := text[strings.LastIndex(text, `msg="flow ended"`):]; !strings.Contains(last, " protocol=bench rule=bench ") || !strings.Contains(last, c.line) || !strings.Contains(last, " cause=ended") {
			t.Errorf("%s: the log says %s", c.service, last)
		}
	}
	if n := counted(t, s.Metrics, "sallyport_flows_ended_total", "ended"); n != 3 {
		t.Errorf("%v flows are counted", n)
	}
	if s.benches.measuring() > 0 || len(s.vnet.lookups) > 0 {
		t.Errorf("left: %v, looked up: %v", s.benches.people, s.vnet.lookups)
	}
}

// TestBenchRefused: nobody measures whom the file does not let, at more than one place, or beside too many others.
func TestBenchRefused(t *testing.T) {
	s, _ := benchSite(t)
	refused := func(what, user, service string, code frame.Code) {
		t.Helper()
		s.peer.User = user
		_, _, err := s.open(bench(service))
		if r, _ := frame.ReasonOf(err); r.Code != code || r.Sentence == "" || r.Hint == "" {
			t.Errorf("%s: %v (%s), want %s", what, err, r.Code, code)
		}
	}
	var open []*frame.Stream
	opens := func(user string) {
		t.Helper()
		s.peer.User = user
		f, _, err := s.open(bench("echo"))
		if err != nil {
			t.Fatalf("%s: %v", user, err)
		}
		open = append(open, f)
	}
	refused("a stranger", "dan", "echo", "E_DENIED")
	refused("no service", "ann", "db-1", "E_NAME")
	opens("ann")
	opens("ann")
	refused("a third flow", "ann", "echo", "E_LIMIT")
	opens("bob")
	refused("a third person", "carl", "echo", "E_BUSY")

	// The places of those who leave are free again.
	for _, f := range open {
		f.Reset(frame.Reason{Code: frame.Closed, Sentence: "done"})
	}
	s.Gateway.relays.Wait()
	open = nil
	opens("carl")
	opens("ann")

	// Who may measure no longer stops at once, as does everybody when the appliance does.
	s.SetPolicy(s.parse("bench: [carl]\n" + siteAccess))
	if _, err := open[1].Read(make([]byte, 1)); codeOf(err) != "E_DENIED" {
		t.Errorf("ann goes on: %v", err)
	}
	var drained sync.WaitGroup
	drained.Go(func() { s.Drain(t.Context(), 0) })
	if _, err := open[0].Read(make([]byte, 1)); codeOf(err) != frame.Draining {
		t.Errorf("carl goes on: %v", err)
	}
	drained.Wait()
	refused("of one that stops", "carl", "echo", frame.Draining)
	if s.benches.measuring() > 0 {
		t.Errorf("left: %v", s.benches.people)
	}
}

// TestBenchRate: whatever the services are asked for, and by how many flows, a person moves no more bytes than the limit
// allows, and that much.
func TestBenchRate(t *testing.T) {
	const bytesPerSecond, seconds = 1 << 20, 10
	for _, c := range []struct {
		what     string
		services []string
	}{
		{"down", []string{"source"}},
		{"up", []string{"sink"}},
		{"up into what only sends", []string{"source", "sink"}},
		{"there and back", []string{"echo"}},
		{"twice", []string{"source", "source"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var b benches
				var wg sync.WaitGroup
				ctx, cancel := context.WithTimeout(t.Context(), seconds*time.Second)
				defer cancel()
				moved := make([]relay.Result, len(c.services))
				for i, service := range c.services {
					conn, err := b.open(service, "ann", Limits{Bench: 1, BenchRate: bytesPerSecond})
					if err != nil {
						t.Fatal(err)
					}
					near, far := frametest.Pipe(0)
					wg.Go(func() {
						in, err := frame.Accept(ctx, far, frame.Options{})
						if err != nil {
							t.Error(err)
							return
						}
						s := in.Accept(frame.Opened{Flow: random(), Session: random()})
						moved[i] = relay.Pump(ctx, s, conn, relay.Options{})
						s.Reset(frame.Reason{Code: frame.Closed})
						conn.Close()
					})
					f, _, err := frame.Open(ctx, near, bench(service), frame.Options{})
					if err != nil {
						t.Fatal(err)
					}
					wg.Go(func() { io.Copy(io.Discard, f) })
					wg.Go(func() { // as much as it takes
						for b := make([]byte, 64<<10); ; {
							if _, err := f.Write(b); err != nil {
								return
							}
						}
					})
				}
				wg.Wait()
				var all int64
				for _, r := range moved {
					all += r.Up + r.Down
				}
				if most := int64(seconds*bytesPerSecond + budgetPiece); all > most || all < most*95/100 {
					t.Errorf("%d bytes moved of %d", all, most)
				}
				if b.measuring() > 0 {
					t.Errorf("left: %v", b.people)
				}
			})
		})
	}
}

// TestBenchLifetime: a flow that measures ends after half a minute, whatever it does.
func TestBenchLifetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := benchSite(t)
		begin := time.Now()
		f, _, err := s.open(bench("source"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, slowly{f})
		if took := time.Since(begin).Round(time.Second); codeOf(err) != "E_LIFETIME" || took != 30*time.Second {
			t.Errorf("it ended after %v with %v", took, err)
		}
		s.wg.Wait()
	})
}

// slowly reads little, so that fake seconds cost little.
type slowly struct{ io.Reader }

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(10 * time.Millisecond)
	return s.Reader.Read(p[:min(len(p), 1<<10)])
}

// TestBenchAsked: the API says how fast people may measure, or that they may not.
func TestBenchAsked(t *testing.T) {
	s, _ := benchSite(t)
	s.Limits.BenchRate = 1000
	if got, err := s.bench(s.peer); got != (api.Bench{Rate: 8000}) || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	s.peer.User = "dan"
	if _, err := s.bench(s.peer); codeOf(reasonError(err)) != "E_DENIED" {
		t.Errorf("%v", err)
	}
}

// TestBenchComesBack: who ends a measurement and begins another has no more to move for it, and takes nobody's place
// meanwhile.
func TestBenchComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b benches
		limits := Limits{Bench: 1, BenchRate: 1 << 20}.withDefaults()
		all := 0
		for range 100 {
			c, err := b.open(benchSink, "ann", limits)
			if err != nil {
				t.Fatal(err)
			}
			for n := 1; n > 0; all += n {
				if n, err = c.Take(make([]byte, 16<<10)); err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
			time.Sleep(time.Millisecond)
		}
		if most := 1<<20/10 + 2*budgetPiece; all > most { // a tenth of a second has passed
			t.Errorf("%d bytes were moved, %d may be", all, most)
		}
		if _, err := b.open(benchSink, "bob", limits); err != nil {
			t.Errorf("ann has left: %v", err)
		}
		time.Sleep(time.Second)
		b.forget()
		if len(b.people) != 1 {
			t.Errorf("%d people are remembered, one measures", len(b.people))
		}
	})
}
