package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A memorySink keeps what it is sent, and fails as it is told.
type memorySink struct {
	mu      sync.Mutex
	lines   []string
	events  []Event
	batches int
	tries   []time.Time
	err     error
	block   bool // until the context ends
	closed  bool
}

func (s *memorySink) Send(ctx context.Context, records []Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries = append(s.tries, time.Now())
	if s.block {
		<-ctx.Done()
		return ctx.Err()
	}
	if s.err != nil {
		return s.err
	}
	s.batches++
	for _, r := range records {
		s.lines = append(s.lines, string(r.Line))
		s.events = append(s.events, r.Event)
	}
	return nil
}

func (s *memorySink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

func (s *memorySink) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// received is what it has.
func (s *memorySink) received() (lines []string, events []Event, batches int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines), slices.Clone(s.events), s.batches
}

func (s *memorySink) count() int {
	lines, _, _ := s.received()
	return len(lines)
}

func exportTo(t testing.TB, l *Log, name string, sink Sink) {
	t.Helper()
	if err := l.Export(name, sink); err != nil {
		t.Fatal(err)
	}
}

// isSent reports whether all exporters have passed everything on.
func isSent(l *Log) bool {
	for _, x := range l.Exports() {
		if x.Lag > 0 {
			return false
		}
	}
	return true
}

// wantChain wants the lines that a receiver has to be those of the log: in order, none missing, repeated at most.
func wantChain(t *testing.T, dir string, got []string) {
	t.Helper()
	var want []string
	for _, s := range mustList(t, dir) {
		b, err := os.ReadFile(filepath.Join(dir, s.name()))
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")...)
	}
	next := 0 // the first line that is not there yet
	at := -1  // the line before
	for i, text := range got {
		e, err := parseLine([]byte(text))
		if err != nil {
			t.Fatalf("line %d of the receiver: %v", i, err)
		}
		n := int(e.Seq) - 1
		if n >= len(want) || want[n] != text {
			t.Fatalf("line %d of the receiver is not line %d of the log", i, n+1)
		}
		if n > next || n != at+1 && n >= next {
			t.Fatalf("line %d of the receiver is line %d of the log instead of %d", i, n+1, next+1)
		}
		at, next = n, max(next, n+1)
	}
	if next < len(want)-1 { // the closing head waits for the next start
		t.Errorf("the receiver has %d of %d lines", next, len(want))
	}
}

func mustList(t *testing.T, dir string) []segment {
	t.Helper()
	segments, err := listSegments(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	return segments
}

// TestExport passes on what was there before, what comes, and after a restart what has come since; in batches.
func TestExport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{SegmentBytes: 64 << 10})
		write(t, l, 0, 1200)
		sink := &memorySink{}
		exportTo(t, l, "siem", sink)
		time.Sleep(3 * time.Second)
		_, _, had := sink.received()
		if !isSent(l) || had < 3 || had > 5 { // full ones, and what was on disk when the first was filled
			t.Errorf("%+v, %d batches", l.Exports(), had)
		}
		write(t, l, 1200, 10)
		time.Sleep(3 * time.Second)
		if _, _, n := sink.received(); !isSent(l) || n != had+1 {
			t.Errorf("%+v, %d batches", l.Exports(), n-had)
		}
		closeLog(t, l)
		if !sink.closed {
			t.Error("the sink is open")
		}
		l = open(t, Config{Dir: l.cfg.Dir})
		again := &memorySink{}
		exportTo(t, l, "siem", again)
		write(t, l, 1210, 5)
		time.Sleep(3 * time.Second)
		closeLog(t, l)
		if first := again.events[0]; first.Kind != HeadKind || first.Why != becauseClosing {
			t.Errorf("after the restart the first line is %+v", first)
		}
		wantChain(t, l.cfg.Dir, append(sink.lines, again.lines...))
	})
}

// TestExportRefused: names, twice the same, and a log that is shorter than what was passed on.
func TestExportRefused(t *testing.T) {
	l := open(t, Config{})
	for _, name := range []string{"", "../x", "A", "a b", "-", strings.Repeat("a", 33)} {
		sink := &memorySink{}
		if err := l.Export(name, sink); err == nil || !sink.closed {
			t.Errorf("%q: %v", name, err)
		}
	}
	exportTo(t, l, "a", &memorySink{})
	if err := l.Export("a", &memorySink{}); err == nil {
		t.Error("two exporters have one name")
	}
	for name, text := range map[string]string{"ahead": `{"sent":1000}`, "broken": `{`} {
		appendTo(t, l.cfg.Dir, "export-"+name+".json", text)
		if err := l.Export(name, &memorySink{}); err == nil || !strings.Contains(err.Error(), "export-"+name+".json") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBackOff: the pauses grow to five minutes, the receiver's wish is heeded, and the state says what is wrong.
func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{})
		sink := &memorySink{err: errFault}
		exportTo(t, l, "siem", sink)
		time.Sleep(2 * time.Hour)
		sink.mu.Lock()
		for i := 1; i < len(sink.tries); i++ {
			least, most := time.Second<<min(i-1, 20)/2, time.Second<<min(i-1, 20)
			if i > 9 {
				least, most = 150*time.Second, 300*time.Second
			}
			if pause := sink.tries[i].Sub(sink.tries[i-1]); pause < least || pause > most+time.Millisecond {
				t.Errorf("pause %d is %v, not %v to %v", i, pause, least, most)
			}
		}
		if len(sink.tries) < 20 || len(sink.tries) > 70 {
			t.Errorf("%d tries in two hours", len(sink.tries))
		}
		sink.tries, sink.err = nil, &LaterError{30 * time.Minute, errFault}
		sink.mu.Unlock()
		time.Sleep(2 * time.Hour)
		if x := l.Exports()[0]; !errors.Is(x.Err, errFault) || x.Lag != l.Last() || !x.LastSent.IsZero() {
			t.Errorf("got %+v", x)
		}
		sink.mu.Lock()
		if n := len(sink.tries); n < 3 || n > 5 {
			t.Errorf("%d tries in two hours, each half an hour later", n)
		}
		sink.mu.Unlock()
		sink.fail(nil)
		time.Sleep(time.Hour)
		if x := l.Exports()[0]; x.Err != nil || x.Lag != 0 || x.LastSent.IsZero() {
			t.Errorf("got %+v", x)
		}
		closeLog(t, l)
	})
}

// TestDeadExporter: one that hangs costs a writer nothing, and Close does not wait for it.
func TestDeadExporter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{Sync: -1})
		exportTo(t, l, "dead", &memorySink{block: true})
		live := &memorySink{}
		exportTo(t, l, "live", live)
		synctest.Wait()
		begin := time.Now()
		write(t, l, 0, 600)
		if took := time.Since(begin); took > 0 { // in the bubble, only waiting takes time
			t.Errorf("writers waited for %v", took)
		}
		time.Sleep(5 * time.Second)
		if live.count() != int(l.Last()) {
			t.Errorf("the other exporter has %d of %d lines", live.count(), l.Last())
		}
		if x := l.Exports()[0]; x.Lag != l.Last() || x.Sent != 0 {
			t.Errorf("got %+v", x)
		}
		time.Sleep(time.Minute)
		if x := l.Exports()[0]; !errors.Is(x.Err, context.DeadlineExceeded) {
			t.Errorf("got %+v", x)
		}
		closeLog(t, l)
	})
}

// TestRetentionWaits: age alone removes nothing that waits to be passed on; too many bytes do, and that is told.
func TestRetentionWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{Keep: 48 * time.Hour, KeepBytes: 40 << 10})
		sink := &memorySink{err: errFault}
		exportTo(t, l, "siem", sink)
		for i := range 6 {
			write(t, l, i, 1)
			time.Sleep(24 * time.Hour)
		}
		if r := verify(t, l.cfg.Dir); r.First != 1 {
			t.Errorf("lines up to %d are gone before they were passed on", r.First-1)
		}
		write(t, l, 6, 200)
		time.Sleep(time.Hour)
		r := verify(t, l.cfg.Dir)
		removal := ofKind(events(t, l.cfg.Dir), Retention)
		if r.First == 1 || len(removal) == 0 || removal[0].Code != CodeUnsent || removal[0].Detail["exporters"] != "siem" {
			t.Errorf("got %+v, %+v", r, removal)
		}
		sink.fail(nil)
		time.Sleep(time.Hour)
		early := uint64(0) // lines that it had read before
		_, got, _ := sink.received()
		for got[early].Seq == early+1 {
			early++
		}
		if x := l.Exports()[0]; got[early].Seq != r.First || x.Lost != r.First-1-early || x.Lag != 0 {
			t.Errorf("got %+v; %d lines, then line %d; the oldest is %d", x, early, got[early].Seq, r.First)
		}
		time.Sleep(72 * time.Hour)
		write(t, l, 300, 1)
		time.Sleep(72 * time.Hour)
		if r := verify(t, l.cfg.Dir); time.Since(r.Began) > 120*time.Hour+time.Hour {
			t.Errorf("the oldest line is %v old", time.Since(r.Began))
		}
		closeLog(t, l)
	})
}

// TestOnlySafe: lines travel once they are on disk, so that a loss of power takes none that others have.
func TestOnlySafe(t *testing.T) {
	l := open(t, Config{Sync: time.Hour, HeadEvery: time.Hour, pause: time.Millisecond})
	sink := &memorySink{}
	exportTo(t, l, "siem", sink)
	soon(t, "the first head", func() bool { return sink.count() == 1 })
	write(t, l, 0, 3)
	if err := l.makeSafe(2); err != nil {
		t.Fatal(err)
	}
	soon(t, "all lines", func() bool { return sink.count() == 4 })
	write(t, l, 3, 3)
	time.Sleep(20 * time.Millisecond)
	if sink.count() != 4 {
		t.Errorf("%d lines, 4 are on disk", sink.count())
	}
}

// TestCursorNotKept: where the exporter's file cannot be written, lines travel on; after a restart they come twice.
func TestCursorNotKept(t *testing.T) {
	l := open(t, Config{Sync: time.Millisecond, HeadEvery: time.Hour, pause: time.Millisecond})
	if err := os.Mkdir(filepath.Join(l.cfg.Dir, "export-siem.json.tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	sink := &memorySink{}
	exportTo(t, l, "siem", sink)
	write(t, l, 0, 10)
	soon(t, "all lines", func() bool { return sink.count() == 11 })
	soon(t, "an error", func() bool { x := l.Exports()[0]; return x.Sent == 11 && x.Err != nil })
	closeLog(t, l)
	l = open(t, Config{Dir: l.cfg.Dir, Sync: time.Millisecond, pause: time.Millisecond})
	again := &memorySink{}
	exportTo(t, l, "siem", again)
	soon(t, "all lines again", func() bool { return isSent(l) })
	closeLog(t, l)
	wantChain(t, l.cfg.Dir, append(sink.lines, again.lines...))
}

// TestBatches: a batch is bounded in lines and in bytes.
func TestBatches(t *testing.T) {
	l := open(t, Config{})
	long := strings.Repeat("x", maxText)
	for range 200 {
		e := Event{Kind: FlowEnd, User: long, Device: long, Session: long, Flow: long, Target: long, Why: long, Object: long, By: long}
		if err := l.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	c := l.cursor(1)
	defer c.close()
	var seqs []string
	for c.next <= l.Last() {
		b, err := c.read(l.Last(), batchLines, batchBytes)
		if err != nil || b.lost != 0 {
			t.Fatal(b.lost, err)
		}
		size := 0
		for _, r := range b.records {
			size += len(r.Line) + 1
			seqs = append(seqs, fmt.Sprint(r.Event.Seq))
		}
		if size > batchBytes || size < batchBytes/2 && c.next <= l.Last() {
			t.Errorf("a batch of %d bytes", size)
		}
	}
	for i, seq := range seqs {
		if seq != fmt.Sprint(i+1) {
			t.Fatalf("line %s instead of %d", seq, i+1)
		}
	}
	if len(seqs) != int(l.Last()) {
		t.Errorf("%d lines", len(seqs))
	}
	fifth := l.cursor(5)
	defer fifth.close()
	b, err := fifth.read(l.Last(), 10, 1)
	if err != nil || len(b.records) != 1 || b.records[0].Event.Seq != 5 {
		t.Errorf("%d lines, %v", len(b.records), err)
	}
}
