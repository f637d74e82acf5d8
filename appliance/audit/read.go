package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"time"
)

// A Filter says which events are wanted. A zero field wants all.
type Filter struct {
	After        uint64    // events with a higher number
	Since, Until time.Time // from, inclusive; up to, exclusive
	Kinds        []string  // such as "flow.end", or "flow." for all of flows
	User         string
	Device       string
	Target       string
	Session      string
	Flow         string
	Code         string // or how it begins: "E_" for all that was refused or went wrong
	Heads        bool   // heads too
}

func (f Filter) wants(e Event) bool {
	same := func(want, have string) bool { return want == "" || want == have }
	return e.Seq > f.After && !e.Time.Before(f.Since) && (f.Until.IsZero() || e.Time.Before(f.Until)) &&
		(f.Heads || e.Kind != HeadKind) && f.wantsKind(e.Kind) &&
		same(f.User, e.User) && same(f.Device, e.Device) && same(f.Target, e.Target) &&
		same(f.Session, e.Session) && same(f.Flow, e.Flow) && strings.HasPrefix(e.Code, f.Code)
}

func (f Filter) wantsKind(kind string) bool {
	return len(f.Kinds) == 0 || slices.ContainsFunc(f.Kinds, func(want string) bool {
		return kind == want || strings.HasSuffix(want, ".") && strings.HasPrefix(kind, want)
	})
}

// Read yields the events of the log in a folder, such as os.DirFS(dir), in order. It verifies nothing. The log may be
// written meanwhile. An error ends it.
func Read(fsys fs.FS, f Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		segments, err := listSegments(fsys)
		if err == nil {
			segments, err = skip(fsys, segments, f)
		}
		if err != nil {
			yield(Event{}, err)
			return
		}
		for _, s := range segments {
			for e, err := range readEvents(fsys, s) {
				if errors.Is(err, fs.ErrNotExist) {
					break // retention has taken it meanwhile
				}
				if err != nil || f.wants(e) {
					if !yield(e, err) || err != nil {
						return
					}
				}
			}
		}
	}
}

// skip leaves out the first segments, as long as the one behind them still begins too early.
func skip(fsys fs.FS, segments []segment, f Filter) ([]segment, error) {
	for len(segments) > 1 {
		next := segments[1]
		if next.first > f.After+1 {
			if f.Since.IsZero() {
				break
			}
			began, err := beginning(fsys, next)
			if err != nil {
				return nil, err
			}
			if began.IsZero() || !began.Before(f.Since) {
				break
			}
		}
		segments = segments[1:]
	}
	return segments, nil
}

// beginning is when a segment begins; zero if it does not yet, or is not there any more.
func beginning(fsys fs.FS, s segment) (time.Time, error) {
	for e, err := range readEvents(fsys, s) {
		if errors.Is(err, fs.ErrNotExist) {
			return time.Time{}, nil
		}
		return e.Time, err
	}
	return time.Time{}, nil
}

// readEvents yields the events of a segment. A last line that is not whole yet is none.
func readEvents(fsys fs.FS, s segment) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f, err := fsys.Open(s.name())
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer f.Close()
		ls := readLines(f)
		for {
			b, err := ls.next()
			if err == io.EOF || err == errTorn {
				return
			}
			var e Event
			if err == nil {
				e, err = parseLine(b)
			}
			if err != nil {
				err = fmt.Errorf("%s, line %d: %w", s.name(), ls.n, err)
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// Follow yields the events of the log in order and then each new one as it is written. It ends without an error with ctx
// or the log. Where retention overtakes it, it goes on with the oldest line that there is.
func (l *Log) Follow(ctx context.Context, f Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		c := l.cursor(l.start(f))
		defer c.close()
		for l.wait(ctx, c.next, false) == nil {
			b, err := c.read(l.Last(), batchLines, batchBytes)
			for _, r := range b.records {
				if f.wants(r.Event) && !yield(r.Event, nil) {
					return
				}
			}
			if err != nil {
				yield(Event{}, err)
				return
			}
		}
	}
}
