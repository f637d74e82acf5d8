package bench

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// target serves loads on loopback and returns the way to it.
func target(t *testing.T) Dial {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
}

func TestBulk(t *testing.T) {
	dial := target(t)
	for _, load := range []BulkLoad{
		{Up: true, Flows: 1}, {Up: true, Flows: 3}, {Flows: 1}, {Flows: 3},
	} {
		load.Warmup, load.Length = 10*time.Millisecond, 300*time.Millisecond // long enough on a busy machine
		var seen []bool
		r, err := Bulk(t.Context(), dial, load, func(begin bool) { seen = append(seen, begin) })
		if err != nil || r.Bytes == 0 || r.Length != load.Length || r.Gbit() <= 0 {
			t.Errorf("%+v: %+v, %v", load, r, err)
		}
		if len(seen) != 2 || !seen[0] || seen[1] {
			t.Errorf("%+v: the window was told of as %v", load, seen)
		}
	}
}

// slowly passes at most so many bytes a second.
type slowly struct {
	net.Conn
	perSecond int
}

func (c slowly) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		n, err := c.Conn.Write(b[done:min(len(b), done+c.perSecond/100)])
		if done += n; err != nil {
			return done, err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return len(b), nil
}

// Bytes count where they arrive, and only in the window: a way of 1 MB/s yields 1 MB/s, however much is on its way.
func TestBulkCounts(t *testing.T) {
	dial := target(t)
	slow := func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		return slowly{c, 1e6}, err
	}
	r, err := Bulk(t.Context(), slow, BulkLoad{Up: true, Warmup: 100 * time.Millisecond, Length: 300 * time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Bytes < 50e3 || r.Bytes > 400e3 { // sleeps are longer on a busy machine, never shorter
		t.Errorf("%d bytes in 0.3 s at 1 MB/s", r.Bytes)
	}
}

func TestBulkFails(t *testing.T) {
	near, far := net.Pipe()
	far.Close()
	_, err := Bulk(t.Context(), func(context.Context) (net.Conn, error) { return near, nil }, BulkLoad{Length: time.Millisecond}, nil)
	if err == nil {
		t.Error("a dead flow carried something")
	}
}

func TestLatency(t *testing.T) {
	dial := target(t)
	s, err := RoundTrips(t.Context(), dial, 20*time.Millisecond, 0)
	if err != nil || s.Count == 0 || s.P50 <= 0 || s.P50 > s.P99 || s.P99 > s.Max {
		t.Errorf("round trips: %+v, %v", s, err)
	}
	s, err = Opens(t.Context(), dial, 5)
	if err != nil || s.Count != 5 || s.P50 <= 0 {
		t.Errorf("opens: %+v, %v", s, err)
	}
	if err := First(t.Context(), dial); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	err = First(ctx, func(context.Context) (net.Conn, error) { return nil, io.EOF })
	if err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Errorf("a way that never opens: %v", err)
	}
}

func TestHold(t *testing.T) {
	dial := target(t)
	calls := [2]int{}
	way := func(i int) Dial {
		return func(ctx context.Context) (net.Conn, error) {
			calls[i]++
			return dial(ctx)
		}
	}
	// One at a time, for the counters; more than one is what TestBulk does.
	h, err := Hold(t.Context(), []Dial{way(0)}, 1)
	if err != nil || calls[0] != 1 {
		t.Fatalf("%v, %v", calls, err)
	}
	h.Close()
	if _, err := Hold(t.Context(), []Dial{func(context.Context) (net.Conn, error) { return nil, io.EOF }}, 40); err == nil || !strings.Contains(err.Error(), "and 39 more") {
		t.Errorf("forty flows that fail: %v", err)
	}
}
