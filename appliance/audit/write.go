package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"
)

// Write adds an event. What nil means stands at the top of this package. An event whose Write failed may be in the log
// nonetheless.
func (l *Log) Write(e Event) error {
	if len(e.Kind) > maxKind || !kindForm.MatchString(e.Kind) || e.Kind == HeadKind {
		return fmt.Errorf("%.40q is not a kind of event that may be written", e.Kind)
	}
	seq, err := l.add(e)
	if err == nil && l.cfg.Sync < 0 {
		err = l.makeSafe(seq)
	}
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	return nil
}

// add writes e and returns its number.
func (l *Log) add(e Event) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, ErrClosed
	}
	err := l.prepare()
	if err == nil {
		err = l.put(e)
	}
	l.written(err)
	if err != nil {
		return 0, err
	}
	seq := l.seq
	if l.seq-l.head.Seq >= uint64(l.cfg.HeadLines) {
		if err := l.putHead(becauseLines); err != nil {
			l.cfg.Log.Warn("audit: no head after these lines", "cause", err) // the next line tries again
		}
	}
	return seq, nil
}

// prepare makes the log ready for a line: in the right segment, behind what is to be said of earlier trouble. It is
// called with mu held, like all that follows.
func (l *Log) prepare() error {
	now := l.cfg.Clock()
	s := l.current()
	full := s.size >= l.cfg.SegmentBytes && l.seq > s.first
	due := (full || !sameDay(now, s.began)) && !now.Before(l.rotateNot)
	if l.suspect || due {
		err := l.rotate(now)
		if err != nil && l.suspect {
			return err
		}
		if err != nil {
			// The segment at hand still takes lines.
			l.cfg.Log.Warn("audit: no new segment", "cause", err)
			l.rotateNot = now.Add(rotateRest)
		}
	}
	if e, ok := l.trouble.event(); ok {
		if err := l.put(e); err != nil {
			return err
		}
		l.trouble.said()
	}
	return nil
}

// rotateRest is how long a segment grows on before a new one is tried again.
const rotateRest = 10 * time.Second

func sameDay(a, b time.Time) bool {
	return a.UTC().Truncate(24 * time.Hour).Equal(b.UTC().Truncate(24 * time.Hour))
}

// rotate ends the segment and begins the next one, each with a head.
func (l *Log) rotate(now time.Time) error {
	if l.suspect {
		// Nothing more is written there, but for what may stand behind its end.
		if err := l.mend(); err != nil {
			return err
		}
	} else {
		if l.head.Seq != l.seq {
			if err := l.putHead(becauseEnds); err != nil {
				return err
			}
		}
		l.fsynced(l.seq, l.file.Sync())
	}
	old := l.file
	if err := l.begin(now); err != nil {
		return err
	}
	if err := old.Close(); err != nil {
		l.cfg.Log.Warn("audit: close a segment", "cause", err)
	}
	return nil
}

// begin makes a segment. It has its name only when its head is in it and on disk; if anything fails, all is as before.
func (l *Log) begin(now time.Time) error {
	s := segment{first: l.seq + 1, began: now}
	path := l.path(s.name())
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s is there already", path), err)
	}
	head, b, err := l.newHead(becauseBegins)
	if err != nil {
		return err
	}
	err = l.cfg.place(path, b)
	var f file
	if err == nil {
		f, err = l.cfg.reopen(path)
	}
	if err != nil {
		// The log goes on without it, so it must not lie there.
		if gone := os.Remove(path); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return err
	}
	l.file, l.segments = f, append(slices.Clone(l.segments), s)
	l.suspect, l.torn = false, false
	l.took(b)
	l.head = head
	signal(l.signed)
	l.fsynced(l.seq, nil)
	return nil
}

// put writes e as the next line.
func (l *Log) put(e Event) error {
	if e.Time.IsZero() || e.Time.Year() < 1 || e.Time.Year() >= 9999 { // no line may be one that cannot be read
		e.Time = l.cfg.Clock()
	}
	e.Seq, e.Prev, e.Appliance = l.seq+1, l.hash, l.cfg.Name
	e.Format, e.Count, e.Key, e.Sig = 0, 0, "", ""
	b, err := line(e)
	if err != nil {
		return err
	}
	return l.putLine(b)
}

// putHead writes a signed head as the next line.
func (l *Log) putHead(why string) error {
	head, b, err := l.newHead(why)
	if err == nil {
		err = l.putLine(b)
	}
	if err != nil {
		return err
	}
	l.head = head
	signal(l.signed)
	return nil
}

// newHead returns the head that the next line may be, and that line.
func (l *Log) newHead(why string) (Head, []byte, error) {
	e := Event{
		Seq: l.seq + 1, Time: l.cfg.Clock().UTC().Truncate(time.Microsecond), Kind: HeadKind, Appliance: l.cfg.Name, Why: why,
		Format: formatVersion, Count: l.seq - l.head.Seq, Key: KeyID(l.keys[0]), Prev: l.hash,
	}
	b, err := signHead(e, l.cfg.Key)
	if err != nil {
		return Head{}, nil, err
	}
	return Head{e.Seq, e.Time, string(b[:len(b)-1])}, b, nil
}

// putLine writes a line with its newline, whole or not at all.
func (l *Log) putLine(b []byte) error {
	if err := l.mend(); err != nil {
		return err
	}
	if _, err := l.file.Write(b); err != nil {
		l.torn = true
		return errors.Join(err, l.mend())
	}
	l.took(b)
	return nil
}

// took counts a line that has been written.
func (l *Log) took(b []byte) {
	l.seq++
	l.hash = hashLine(b[:len(b)-1])
	l.current().size += int64(len(b))
	l.notify()
	signal(l.dirty)
	if l.seq == l.head.Seq+1 {
		signal(l.unsigned)
	}
}

// mend takes away what of a line that failed stands behind the segment's end.
func (l *Log) mend() error {
	if !l.torn {
		return nil
	}
	if err := l.file.Truncate(l.current().size); err != nil {
		return err
	}
	l.torn = false
	return nil
}
