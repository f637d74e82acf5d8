package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestGoesOn writes, closes and opens a log again.
func TestGoesOn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "audit")
	for i := range 3 {
		l := open(t, Config{Dir: dir})
		write(t, l, i*10, 10)
		closeLog(t, l)
	}
	r := verify(t, dir)
	if want := uint64(3 * (1 + 10 + 1)); r.Last != want || r.First != 1 || r.Segments != 1 || r.Heads != 6 || r.Unsigned != 0 || r.Head.Seq != want {
		t.Errorf("got %+v", r)
	}
	for i, e := range ofKind(events(t, dir), FlowOpen) {
		if e.Object != fmt.Sprint(i) || e.Appliance != "bastion-1" || e.Time.IsZero() {
			t.Errorf("event %d is %+v", i, e)
		}
	}
	for _, name := range []string{".", segmentName(1), headFile, "lock"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
}

// TestOnDiskAtOnce: the line is in the file when Write returns, and nothing of the log's own fields comes from outside.
func TestOnDiskAtOnce(t *testing.T) {
	for _, sync := range []time.Duration{0, time.Hour, -1} {
		l := open(t, Config{Sync: sync})
		e := Event{Kind: FlowEnd, Seq: 99, Appliance: "other", Prev: "other", Sig: "00", Key: "k", Count: 7, Format: 9, Time: someTime}
		if err := l.Write(e); err != nil {
			t.Fatal(err)
		}
		got := ofKind(events(t, l.cfg.Dir), FlowEnd)
		want := Event{Kind: FlowEnd, Seq: 2, Appliance: "bastion-1", Prev: hashLine([]byte(l.Head().Line)), Time: someTime.UTC()}
		if len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
		if sync < 0 && !onDisk(l, 2) {
			t.Error("the line is not on disk")
		}
	}
}

func TestRefusedKinds(t *testing.T) {
	l := open(t, Config{})
	for _, kind := range []string{"", HeadKind, "Flow.Open", "flow open", ".a", "a.", "a..b", "a\n", strings.Repeat("a", maxKind+1)} {
		if err := l.Write(Event{Kind: kind}); err == nil {
			t.Errorf("%q was written", kind)
		}
	}
	if l.Last() != 1 {
		t.Errorf("%d lines", l.Last())
	}
}

// TestStrangeTimes: no time that a caller gives makes a line that cannot be read.
func TestStrangeTimes(t *testing.T) {
	l := open(t, Config{})
	for _, year := range []int{-1, 0, 1, 9998, 9999, 10000, 1 << 30} {
		if err := l.Write(Event{Kind: FlowOpen, Time: time.Date(year, 12, 31, 23, 59, 59, 999_999_999, time.FixedZone("", -12*3600))}); err != nil {
			t.Fatal(err)
		}
	}
	closeLog(t, l)
	verify(t, l.cfg.Dir)
	closeLog(t, open(t, Config{Dir: l.cfg.Dir}))
}

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{Key: testKey}, {Dir: t.TempDir()}, {Dir: t.TempDir(), Key: testKey[:10]}, {Dir: t.TempDir(), Key: testKey, Name: strings.Repeat("x", 256)},
		{Dir: filepath.Join(os.DevNull, "x"), Key: testKey},
	} {
		if l, err := Open(cfg); err == nil {
			l.Close()
			t.Errorf("%+v was taken", cfg)
		}
	}
}

func TestOneProcess(t *testing.T) {
	l := open(t, Config{})
	if second, err := Open(l.cfg); err == nil {
		second.Close()
		t.Fatal("two logs write in one folder")
	} else if !strings.Contains(err.Error(), "another process writes") {
		t.Error(err)
	}
	closeLog(t, l)
	closeLog(t, open(t, Config{Dir: l.cfg.Dir}))
}

func TestClosed(t *testing.T) {
	l := open(t, Config{})
	closeLog(t, l)
	closeLog(t, l)
	if err := l.Write(numbered(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := l.Export("late", &memorySink{}); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// TestParallelWriters has many write at once, with an fsync for each and without.
func TestParallelWriters(t *testing.T) {
	for _, sync := range []time.Duration{-1, time.Millisecond} {
		l := open(t, Config{Sync: sync, SegmentBytes: 16 << 10, HeadLines: 10, HeadEvery: time.Millisecond})
		const writers, each = 16, 50
		writeAtOnce(t, l, writers, each)
		closeLog(t, l)
		r := verify(t, l.cfg.Dir)
		if r.Segments < 3 {
			t.Errorf("%d segments", r.Segments)
		}
		next := map[string]int{}
		for _, e := range ofKind(events(t, l.cfg.Dir), FlowOpen) {
			if e.Object != fmt.Sprint(next[e.User]) {
				t.Fatalf("%s wrote %s instead of %d", e.User, e.Object, next[e.User])
			}
			next[e.User]++
		}
		for user, n := range next {
			if n != each {
				t.Errorf("%d events of %s", n, user)
			}
		}
		if len(next) != writers {
			t.Errorf("%d writers", len(next))
		}
	}
}

func writeAtOnce(t *testing.T, l *Log, writers, each int) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				e := numbered(i)
				e.User = fmt.Sprint("user-", w)
				if err := l.Write(e); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
}

// TestHeads: after so many lines, and so long after the first line without one; never twice for nothing.
func TestHeads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{HeadLines: 10, HeadEvery: 10 * time.Second})
		heads := func() int { return len(ofKind(events(t, l.cfg.Dir), HeadKind)) }
		published := func() uint64 {
			h, err := readHead(os.DirFS(l.cfg.Dir), l.keys)
			if err != nil {
				t.Error(err)
			}
			return h.Seq
		}
		if heads() != 1 || published() != 1 {
			t.Errorf("at first: %d heads, line %d is published", heads(), published())
		}
		write(t, l, 0, 10)
		synctest.Wait()
		if heads() != 2 || published() != 12 || l.Head().Seq != 12 {
			t.Errorf("after 10 lines: %d heads, line %d is published", heads(), published())
		}
		time.Sleep(time.Hour)
		if heads() != 2 {
			t.Errorf("in an idle hour %d heads were written", heads()-2)
		}
		write(t, l, 10, 1)
		time.Sleep(9 * time.Second)
		if heads() != 2 {
			t.Errorf("too early a head")
		}
		write(t, l, 11, 1)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if heads() != 3 || published() != 15 {
			t.Errorf("after 11 seconds: %d heads, line %d is published", heads(), published())
		}
		list := ofKind(events(t, l.cfg.Dir), HeadKind)
		if got := list[2]; got.Count != 2 || got.Why != becauseTime || got.Key != KeyID(testPublic) || got.Format != 1 {
			t.Errorf("got %+v", got)
		}
		closeLog(t, l)
		verify(t, l.cfg.Dir)
	})
}

// TestSynced: lines are on disk within Config.Sync.
func TestSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{Sync: 50 * time.Millisecond})
		for range 5 {
			write(t, l, 0, 1)
			time.Sleep(51 * time.Millisecond)
			if !onDisk(l, l.Last()) {
				t.Error("the latest line is not on disk")
			}
		}
		closeLog(t, l)
	})
}

func onDisk(l *Log, seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.synced >= seq
}

func segmentsOf(l *Log) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.segments)
}

// writeMore is write for other goroutines than the test's.
func writeMore(t *testing.T, l *Log, from, n int) {
	for i := from; i < from+n; i++ {
		if err := l.Write(numbered(i)); err != nil {
			t.Error(err)
			return
		}
	}
}

// TestRotation: a segment ends at its size and with the day, also while the log is closed.
func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // it is midnight
		l := open(t, Config{SegmentBytes: 4 << 10})
		write(t, l, 0, 30)
		closeLog(t, l)
		want := len(mustList(t, l.cfg.Dir))
		if want < 2 || want > 5 {
			t.Errorf("30 events make %d segments", want)
		}
		l = open(t, Config{Dir: l.cfg.Dir})
		for _, step := range []struct {
			wait time.Duration
			more int
		}{{0, 0}, {23 * time.Hour, 0}, {2 * time.Hour, 1}, {time.Hour, 0}, {22 * time.Hour, 1}} {
			time.Sleep(step.wait)
			write(t, l, 0, 1)
			if want += step.more; segmentsOf(l) != want {
				t.Fatalf("%d segments instead of %d after %v", segmentsOf(l), want, step.wait)
			}
		}
		closeLog(t, l)
		time.Sleep(24 * time.Hour)
		l = open(t, Config{Dir: l.cfg.Dir})
		if want++; segmentsOf(l) != want {
			t.Errorf("%d segments instead of %d when the log is opened", segmentsOf(l), want)
		}
		closeLog(t, l)
		if r := verify(t, l.cfg.Dir); r.Segments != want {
			t.Errorf("got %+v", r)
		}
		for _, s := range l.segments {
			var list []Event
			for e, err := range readEvents(os.DirFS(l.cfg.Dir), s) {
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, e)
			}
			if list[0].Kind != HeadKind || list[len(list)-1].Kind != HeadKind || list[0].Seq != s.first {
				t.Errorf("%s does not begin and end with a head", s.name())
			}
		}
	})
}

// TestRetention removes by age and by bytes, and the log says so before it happens.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{Keep: 10 * 24 * time.Hour, KeepBytes: 40 << 10})
		for i := range 30 {
			write(t, l, i, 1)
			time.Sleep(24 * time.Hour)
		}
		synctest.Wait()
		r := verify(t, l.cfg.Dir)
		if r.First == 1 || r.Removed != r.First-1 {
			t.Errorf("got %+v", r)
		}
		// The segment of the day on which the limit falls stays until its last line is too old.
		if age := time.Since(r.Began); age < 10*24*time.Hour || age > 12*24*time.Hour {
			t.Errorf("the oldest line is %v old", age)
		}
		removal := ofKind(events(t, l.cfg.Dir), Retention)
		if len(removal) == 0 || removal[0].Code != "" || !strings.Contains(removal[0].Why, "older") {
			t.Errorf("got %+v", removal)
		}

		write(t, l, 100, 200)
		time.Sleep(24 * time.Hour)
		write(t, l, 300, 1)
		time.Sleep(time.Hour)
		synctest.Wait()
		r = verify(t, l.cfg.Dir)
		if r.Began.Before(time.Now().Add(-27 * time.Hour)) {
			t.Errorf("%v are still there of more than 40 KiB", time.Since(r.Began))
		}
		if r.Removed != r.First-1 {
			t.Errorf("got %+v", r)
		}
		closeLog(t, l)
		closeLog(t, open(t, Config{Dir: l.cfg.Dir}))
		verify(t, l.cfg.Dir)
	})
}

// TestKeepsForEver: nothing is removed where both limits are off.
func TestKeepsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{Keep: -1, KeepBytes: -1})
		for range 20 {
			write(t, l, 0, 1)
			time.Sleep(100 * 24 * time.Hour)
		}
		closeLog(t, l)
		if r := verify(t, l.cfg.Dir); r.First != 1 || r.Segments != 21 {
			t.Errorf("got %+v", r)
		}
	})
}

// TestNewKey goes on with a log whose heads an earlier key has signed.
func TestNewKey(t *testing.T) {
	l := open(t, Config{})
	write(t, l, 0, 3)
	closeLog(t, l)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: l.cfg.Dir, Key: private}); err == nil || !strings.Contains(err.Error(), "none of the appliance's") {
		t.Errorf("got %v", err)
	}
	l = open(t, Config{Dir: l.cfg.Dir, Key: private, Known: []ed25519.PublicKey{testPublic}})
	write(t, l, 3, 3)
	closeLog(t, l)
	if _, err := Verify(os.DirFS(l.cfg.Dir), public); err == nil {
		t.Error("the new key alone verifies what the old one has signed")
	}
	v := Verifier{Keys: []ed25519.PublicKey{public, testPublic}}
	if _, err := v.Verify(os.DirFS(l.cfg.Dir)); err != nil {
		t.Error(err)
	}
}

func TestFollow(t *testing.T) {
	l := open(t, Config{SegmentBytes: 4 << 10, HeadLines: 7})
	write(t, l, 0, 50)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { writeMore(t, l, 50, 50) })
	next := 0
	for e, err := range l.Follow(ctx, Filter{Kinds: []string{"flow."}}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Object != fmt.Sprint(next) {
			t.Fatalf("got %s instead of %d", e.Object, next)
		}
		if next++; next == 100 {
			stop()
		}
	}
	if next != 100 {
		t.Errorf("%d events", next)
	}

	// After, and the end of the log as the end.
	last := l.Last()
	wg.Go(func() {
		writeMore(t, l, 100, 3)
		l.Close()
	})
	next = 100
	for e, err := range l.Follow(t.Context(), Filter{After: last}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Object != fmt.Sprint(next) {
			t.Errorf("got %s instead of %d", e.Object, next)
		}
		next++
	}
	if next != 103 {
		t.Errorf("%d events after line %d", next-100, last)
	}
}

func TestFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{})
		begin := time.Now()
		for day := range 5 {
			for _, kind := range []string{SignInOK, FlowOpen, FlowEnd} {
				e := Event{Kind: kind, User: []string{"ann", "bob"}[day%2], Target: "db-1", Device: "d", Session: "s", Flow: fmt.Sprint("f", day)}
				if kind == FlowEnd && day == 1 {
					e.Code = "E_IDLE"
				}
				if err := l.Write(e); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(24 * time.Hour)
		}
		if segmentsOf(l) != 5 {
			t.Fatalf("%d segments", segmentsOf(l))
		}
		third, _ := l.find(l.Last() - 6)
		for _, c := range []struct {
			f    Filter
			want int
		}{
			{Filter{}, 15},
			{Filter{Kinds: []string{"flow."}}, 10},
			{Filter{Kinds: []string{"flow"}}, 0},
			{Filter{Kinds: []string{FlowEnd, SignInOK}}, 10},
			{Filter{User: "bob"}, 6},
			{Filter{User: "bob", Kinds: []string{FlowEnd}}, 2},
			{Filter{Flow: "f3"}, 3},
			{Filter{Code: "E_"}, 1},
			{Filter{Code: "E_IDLE"}, 1},
			{Filter{Code: "E_KILLED"}, 0},
			{Filter{Target: "db-2"}, 0},
			{Filter{Device: "d", Session: "s", Target: "db-1"}, 15},
			{Filter{Since: begin.Add(72 * time.Hour)}, 6},
			{Filter{Since: begin.Add(72*time.Hour + 1)}, 3},
			{Filter{Until: begin.Add(48 * time.Hour)}, 6},
			{Filter{Since: begin.Add(24 * time.Hour), Until: begin.Add(48 * time.Hour)}, 3},
			{Filter{After: l.Last()}, 0},
			{Filter{After: l.Last() - 1, Heads: true}, 1},
			{Filter{After: third.first}, 6},
			{Filter{Heads: true, Kinds: []string{HeadKind}}, 10},
		} {
			n := 0
			for _, err := range Read(os.DirFS(l.cfg.Dir), c.f) {
				if err != nil {
					t.Fatal(err)
				}
				n++
			}
			if n != c.want {
				t.Errorf("%+v: read %d events, not %d", c.f, n, c.want)
			}
			if got := followed(t, l, c.f); got != c.want {
				t.Errorf("%+v: followed %d events, not %d", c.f, got, c.want)
			}
		}
		closeLog(t, l)
	})
}

// followed counts what is there already.
func followed(t *testing.T, l *Log, f Filter) int {
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	n := 0
	for _, err := range l.Follow(ctx, f) {
		if err != nil {
			t.Error(err)
		}
		n++
	}
	return n
}

// TestReadFaults: what cannot be read is an error, but for a last line that is not whole yet.
func TestReadFaults(t *testing.T) {
	l := open(t, Config{})
	write(t, l, 0, 3)
	closeLog(t, l)
	path := filepath.Join(l.cfg.Dir, segmentName(1))
	add := func(text string) {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	count := func() (n int, err error) {
		for _, err := range Read(os.DirFS(l.cfg.Dir), Filter{}) {
			if err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	}
	add(`{"seq":6`)
	if n, err := count(); n != 3 || err != nil {
		t.Errorf("half a line: %d events, %v", n, err)
	}
	add("\n")
	if n, err := count(); n != 3 || err == nil || !strings.Contains(err.Error(), "line 6") {
		t.Errorf("a broken line: %d events, %v", n, err)
	}
	for _, err := range Read(os.DirFS(filepath.Join(l.cfg.Dir, "no")), Filter{}) {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("no folder: %v", err)
		}
	}
}
