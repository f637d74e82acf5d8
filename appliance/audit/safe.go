package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// keepSafe brings lines to disk, each within Config.Sync.
func (l *Log) keepSafe(ctx context.Context) {
	for {
		select {
		case <-l.dirty:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(l.cfg.Sync):
		case <-ctx.Done():
			return
		}
		l.makeSafe(l.Last()) // what fails is in the log, in Trouble and, with the next line, an event
	}
}

// makeSafe returns when line seq is on disk. Those who wait for the disk at the same time share one fsync.
func (l *Log) makeSafe(seq uint64) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	f, upTo := l.file, l.seq
	waits := seq > l.synced && !l.unsafe.has(seq) && !l.suspect
	l.mu.Unlock()
	var err error
	if waits {
		err = f.Sync()
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	if waits && f == l.file {
		l.fsynced(upTo, err)
	}
	// Else the segment has been ended meanwhile, and its lines were made safe, or not, by that.
	if l.unsafe.has(seq) {
		return fmt.Errorf("line %d may not be on disk: %w", seq, l.trouble.unsafe)
	}
	return nil
}

// fsynced takes down how an fsync ended that was for the lines up to upTo. What the kernel could not write it may forget
// and then report success, so after an error this segment is not trusted any more: the next line begins another one. It
// is called with mu held.
func (l *Log) fsynced(upTo uint64, err error) {
	if upTo <= l.synced {
		return
	}
	if err == nil {
		l.synced = upTo
		l.trouble.fsync = nil
		l.notify()
		return
	}
	l.cfg.Log.Error("audit: lines may not be on disk", "from", l.synced+1, "to", l.seq, "cause", err)
	l.suspect = true
	l.unsafe = span{l.synced + 1, l.seq}
	l.trouble.fsync, l.trouble.unsafe = err, err
	l.trouble.since = l.cfg.Clock()
	l.trouble.lines = l.unsafe
}

// trouble is what is wrong with the log, and what of it the log must still say.
type trouble struct {
	write, fsync, head error // of the latest try; nil after one that went well

	since   time.Time // when it began
	refused int       // events that were not written
	last    error     // why the latest of them was not
	lines   span      // lines that may not be on disk
	unsafe  error     // why
}

// event is what must be said of trouble that is over.
func (t *trouble) event() (Event, bool) {
	e := Event{Kind: Trouble, Detail: map[string]string{"since": t.since.UTC().Format(timeForm)}}
	switch {
	case t.refused > 0:
		e.Why = fmt.Sprintf("events could not be written: %v", t.last)
		e.Detail["refused"] = strconv.Itoa(t.refused)
	case t.lines.to > 0:
		e.Why = fmt.Sprintf("lines may not be on disk: %v", t.unsafe)
	}
	if t.lines.to > 0 {
		e.Detail["unsafe_from"] = strconv.FormatUint(t.lines.from, 10)
		e.Detail["unsafe_to"] = strconv.FormatUint(t.lines.to, 10)
	}
	return e, e.Why != ""
}

func (t *trouble) said() { t.refused, t.last, t.lines = 0, nil, span{} }

// written takes down how a Write ended. It is called with mu held.
func (l *Log) written(err error) {
	t := &l.trouble
	if err != nil {
		if t.write == nil {
			l.cfg.Log.Error("audit: events cannot be written", "cause", err)
		}
		if t.refused == 0 {
			t.since = l.cfg.Clock()
		}
		t.refused++
		t.last = err
	} else if t.write != nil {
		l.cfg.Log.Info("audit: events are written again")
	}
	t.write = err
}

// Trouble returns what is wrong with the log now, for a health check: that events cannot be written, that lines cannot be
// brought to disk, or that head.json cannot be replaced. Nil means that all is well.
func (l *Log) Trouble() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.trouble.write, l.trouble.fsync, l.trouble.head)
}
