package wire

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ends are a link between two sockets that keep frames apart as packet sockets do, and the other ends of those.
func ends(t *testing.T) (*Link, [2]*os.File) {
	t.Helper()
	var inner [2]int
	var outer [2]*os.File
	for i := range inner {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(pair[1], true); err != nil {
			t.Fatal(err)
		}
		inner[i], outer[i] = pair[0], os.NewFile(uintptr(pair[1]), "end")
		t.Cleanup(func() { outer[i].Close() })
	}
	l, err := start(inner[0], inner[1], etherSize+1500, Options{Seed: 7, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, outer
}

func write(t *testing.T, f *os.File, frame []byte) {
	t.Helper()
	if _, err := f.Write(frame); err != nil {
		t.Fatal(err)
	}
}

// read returns the next frame, nil if none comes within the time.
func read(t *testing.T, f *os.File, within time.Duration) []byte {
	t.Helper()
	f.SetReadDeadline(time.Now().Add(within))
	b := make([]byte, 2000)
	n, err := f.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func TestLink(t *testing.T) {
	l, outer := ends(t)
	for d := range outer {
		for i := range 1000 {
			f := datagram(4+2*(i%2), 60+i, i)
			write(t, outer[d], f)
			if got := read(t, outer[1-d], time.Minute); !slices.Equal(got, f) {
				t.Fatalf("%v: frame %d came as % x", Direction(d), i, got)
			}
		}
	}
	if s := l.Stats(Both); s != (Stats{Received: 2000, Sent: 2000}) {
		t.Errorf("%+v", s)
	}
}

func TestLinkDelays(t *testing.T) {
	l, outer := ends(t)
	if err := l.Set(Up, Impairment{Delay: 50 * ms}); err != nil {
		t.Fatal(err)
	}
	for d, least := range []time.Duration{50 * ms, 0} {
		begin := time.Now()
		write(t, outer[d], datagram(4, 100, 0))
		if got := read(t, outer[1-d], time.Minute); got == nil || time.Since(begin) < least {
			t.Errorf("%v: %v after %v", Direction(d), got != nil, time.Since(begin))
		}
	}
}

// A change reaches what already waits, and a script is a row of changes.
func TestLinkRun(t *testing.T) {
	l, outer := ends(t)
	steps, err := Parse("up rate=1 queue=10k, 20ms up hole=all, 20ms pass", 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Run(t.Context(), steps[:1]); err != nil {
		t.Fatal(err)
	}
	write(t, outer[0], datagram(4, 100, 0)) // would take two minutes
	if err := l.Run(t.Context(), steps[1:2]); err != nil {
		t.Fatal(err)
	}
	if got := read(t, outer[1], time.Minute); got == nil {
		t.Error("what waited for the rate does not come")
	}
	write(t, outer[0], datagram(4, 100, 1))
	for l.Stats(Up).Holed == 0 {
		time.Sleep(ms)
	}
	if err := l.Run(t.Context(), steps[2:]); err != nil {
		t.Fatal(err)
	}
	write(t, outer[0], datagram(4, 100, 2))
	if got := read(t, outer[1], time.Minute); got == nil || (arrival{frame: got}).number() != 2 {
		t.Errorf("after the hole came % x", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx, []Step{{Wait: time.Hour}}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := l.Set(Both, Impairment{Loss: 2}); err == nil {
		t.Error("a loss of 200 % is taken")
	}
}

func TestLinkDropsGiants(t *testing.T) {
	l, outer := ends(t)
	write(t, outer[0], datagram(4, 1501, 0))
	write(t, outer[0], datagram(4, 1500, 1))
	if got := read(t, outer[1], time.Minute); len(got) != 1514 {
		t.Errorf("%d bytes came", len(got))
	}
	if s := l.Stats(Up); s.Giant != 1 || s.Sent != 1 {
		t.Errorf("%+v", s)
	}
}

func TestLinkAnswers(t *testing.T) {
	l, outer := ends(t)
	l.Set(Both, Impairment{MTU: 1000, TooBig: true})
	for d := range outer {
		write(t, outer[d], datagram(6, 1001, 0))
		if got := read(t, outer[d], time.Minute); !parse(got).reportsError(got) {
			t.Errorf("%v: % x", Direction(d), got)
		}
	}
}

// A link ends although nobody takes what it wants to send.
func TestLinkCloses(t *testing.T) {
	l, outer := ends(t)
	outer[0].SetWriteDeadline(time.Now().Add(200 * ms))
	for {
		if _, err := outer[0].Write(datagram(4, 1000, 0)); err != nil {
			break
		}
	}
	l.Close()
	l.Close()
	if err := l.Set(Both, Impairment{Delay: ms}); err != nil {
		t.Error(err)
	}
	if s := l.Stats(Up); s.Received == 0 {
		t.Errorf("%+v", s)
	}
}
