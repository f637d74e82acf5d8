package audit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var errFault = errors.New("the disk says no")

// A faultyDisk fails as it is told.
type faultyDisk struct {
	room                                             atomic.Int64 // bytes that writes still take; negative: all
	noTruncate, noSync, noPlace, noPlaceLate, noOpen atomic.Bool
}

func newFaultyDisk() *faultyDisk {
	d := new(faultyDisk)
	d.room.Store(-1)
	return d
}

// config has the log write on d.
func (d *faultyDisk) config(cfg Config) Config {
	cfg.place = func(path string, data []byte) error {
		if d.noPlace.Load() {
			return errFault
		}
		err := replaceFile(path, data)
		if d.noPlaceLate.Load() {
			return errors.Join(err, errFault)
		}
		return err
	}
	cfg.reopen = func(path string) (file, error) {
		if d.noOpen.Load() {
			return nil, errFault
		}
		f, err := reopen(path)
		return faultyFile{f, d}, err
	}
	return cfg
}

type faultyFile struct {
	file
	disk *faultyDisk
}

func (f faultyFile) Write(b []byte) (int, error) {
	room := f.disk.room.Load()
	if room < 0 || int64(len(b)) <= room {
		return f.file.Write(b)
	}
	n, err := f.file.Write(b[:room])
	return n, errors.Join(errFault, err)
}

func (f faultyFile) Truncate(size int64) error {
	if f.disk.noTruncate.Load() {
		return errFault
	}
	return f.file.Truncate(size)
}

func (f faultyFile) Sync() error {
	if f.disk.noSync.Load() {
		return errFault
	}
	return f.file.Sync()
}

// TestHalfWritten: a line of which only a part was written is taken away at once, or before the next one if that fails.
func TestHalfWritten(t *testing.T) {
	for _, noTruncate := range []bool{false, true} {
		d := newFaultyDisk()
		l := open(t, d.config(Config{}))
		write(t, l, 0, 3)
		d.room.Store(100)
		d.noTruncate.Store(noTruncate)
		for range 2 {
			if err := l.Write(numbered(3)); !errors.Is(err, errFault) {
				t.Errorf("got %v", err)
			}
		}
		if !errors.Is(l.Trouble(), errFault) {
			t.Errorf("trouble: %v", l.Trouble())
		}
		if got := len(ofKind(events(t, l.cfg.Dir), FlowOpen)); got != 3 {
			t.Errorf("%d events", got)
		}
		size := l.current().size
		info, err := os.Stat(filepath.Join(l.cfg.Dir, segmentName(1)))
		if err != nil || (info.Size() == size) == noTruncate {
			t.Errorf("%d bytes instead of %d, %v", info.Size(), size, err)
		}
		d.room.Store(-1)
		d.noTruncate.Store(false)
		write(t, l, 3, 2)
		if err := l.Trouble(); err != nil {
			t.Errorf("trouble: %v", err)
		}
		closeLog(t, l)
		verify(t, l.cfg.Dir)
		list := events(t, l.cfg.Dir)
		said := ofKind(list, Trouble)
		if len(ofKind(list, FlowOpen)) != 5 || len(said) != 1 || said[0].Detail["refused"] != "2" || !strings.Contains(said[0].Why, errFault.Error()) {
			t.Errorf("got %+v", said)
		}
	}
}

// TestFailedSync: after an fsync that failed nothing more is written in that segment, whoever waited is told, and the log
// says which lines may be lost.
func TestFailedSync(t *testing.T) {
	d := newFaultyDisk()
	l := open(t, d.config(Config{Sync: -1}))
	write(t, l, 0, 3)
	d.noSync.Store(true)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := l.Write(numbered(3)); !errors.Is(err, errFault) {
				t.Errorf("got %v", err)
			}
		})
	}
	wg.Wait()
	if !errors.Is(l.Trouble(), errFault) {
		t.Errorf("trouble: %v", l.Trouble())
	}
	d.noSync.Store(false)
	write(t, l, 4, 1)
	soon(t, "no trouble", func() bool { return l.Trouble() == nil })
	closeLog(t, l)
	if r := verify(t, l.cfg.Dir); r.Segments < 2 {
		t.Errorf("got %+v", r)
	}
	said := ofKind(events(t, l.cfg.Dir), Trouble)
	if len(said) == 0 || said[0].Detail["unsafe_from"] != "5" || said[0].Detail["unsafe_to"] == "" {
		t.Errorf("got %+v", said)
	}
}

// TestFailedSyncLater: where Write does not wait, the next one begins another segment.
func TestFailedSyncLater(t *testing.T) {
	d := newFaultyDisk()
	l := open(t, d.config(Config{Sync: time.Hour}))
	write(t, l, 0, 3)
	d.noSync.Store(true)
	if err := l.makeSafe(l.Last()); !errors.Is(err, errFault) {
		t.Errorf("got %v", err)
	}
	d.noPlace.Store(true)
	if err := l.Write(numbered(3)); !errors.Is(err, errFault) {
		t.Errorf("got %v: the segment cannot be trusted, and there is no other", err)
	}
	d.noPlace.Store(false)
	d.noSync.Store(false)
	write(t, l, 3, 1)
	closeLog(t, l)
	if r := verify(t, l.cfg.Dir); r.Segments != 2 {
		t.Errorf("got %+v", r)
	}
	said := ofKind(events(t, l.cfg.Dir), Trouble)
	if len(said) != 1 || said[0].Detail["refused"] != "1" || said[0].Detail["unsafe_from"] == "" {
		t.Errorf("got %+v", said)
	}
}

// TestNoNewSegment: where none can be begun, the one at hand goes on.
func TestNoNewSegment(t *testing.T) {
	d := newFaultyDisk()
	now := time.Now()
	l := open(t, d.config(Config{SegmentBytes: 2 << 10, Clock: func() time.Time { return now }}))
	i := 0
	for _, no := range []*atomic.Bool{&d.noPlace, &d.noPlaceLate, &d.noOpen} {
		no.Store(true)
		before := len(l.segments)
		for range 3 {
			write(t, l, i, 10)
			i += 10
			now = now.Add(rotateRest)
		}
		if len(l.segments) != before {
			t.Errorf("%d segments", len(l.segments))
		}
		verify(t, l.cfg.Dir)
		no.Store(false)
		write(t, l, i, 1)
		i++
		if len(l.segments) != before+1 {
			t.Errorf("%d segments", len(l.segments))
		}
	}
	closeLog(t, l)
	verify(t, l.cfg.Dir)
	if got := len(ofKind(events(t, l.cfg.Dir), FlowOpen)); got != i {
		t.Errorf("%d events of %d", got, i)
	}
}

// TestFailedOpen: a log that cannot write its first head does not open, and does next time.
func TestFailedOpen(t *testing.T) {
	d := newFaultyDisk()
	dir := t.TempDir()
	cfg := d.config(Config{Dir: dir, Key: testKey})
	for _, fail := range []func(){func() { d.noPlace.Store(true) }, func() { d.noPlaceLate.Store(true) }, func() { d.noOpen.Store(true) }} {
		fail()
		if _, err := Open(cfg); !errors.Is(err, errFault) {
			t.Fatalf("got %v", err)
		}
		d.noPlace.Store(false)
		d.noPlaceLate.Store(false)
		d.noOpen.Store(false)
	}
	l := open(t, Config{Dir: dir})
	write(t, l, 0, 1)
	closeLog(t, l)
	d.noOpen.Store(true)
	if _, err := Open(cfg); !errors.Is(err, errFault) {
		t.Fatalf("got %v", err)
	}
	closeLog(t, open(t, Config{Dir: dir}))
	verify(t, dir)
}
