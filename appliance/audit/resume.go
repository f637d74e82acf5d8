package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"
)

// A tail is the last segment as an earlier process has left it.
type tail struct {
	chain chain
	began time.Time
	prev  string // the hash that its first line holds
	end   int64  // of its last whole line

	torn     int64 // bytes that follow, of a line that was never whole
	tornHash string
}

// resume goes on where an earlier process ended, or begins a log.
func (l *Log) resume() error {
	fsys := os.DirFS(l.cfg.Dir)
	if err := l.sweep(fsys); err != nil {
		return err
	}
	segments, err := listSegments(fsys)
	if err != nil {
		return err
	}
	head, err := readHead(fsys, l.keys)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // checkEnd says whether it may
	} else if err != nil {
		err = &Broken{File: headFile, Why: err.Error()}
	}
	var t tail
	if err == nil && len(segments) > 0 {
		t, err = readTail(fsys, segments[len(segments)-1], l.keys, head)
	}
	if err == nil {
		err = checkEnd(segments, t, head)
	}
	if err == nil {
		err = l.readEarlier(segments, t)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be gone on with: %w; keep the folder as evidence: move it away, and a new log begins", l.cfg.Dir, err)
	}
	if len(segments) == 0 {
		return l.beginLog()
	}
	return l.goOn(segments, t)
}

// sweep removes what a process that died was about to put into its place.
func (l *Log) sweep(fsys fs.FS) error {
	names, err := fs.Glob(fsys, "*.tmp")
	for _, name := range names {
		err = errors.Join(err, os.Remove(l.path(name)))
	}
	return err
}

// readTail verifies a segment. Its last line may be torn: it has no newline, or it is no JSON. Its first may not: a segment
// has that before it has its name.
func readTail(fsys fs.FS, s segment, keys []ed25519.PublicKey, head Head) (tail, error) {
	f, err := fsys.Open(s.name())
	if err != nil {
		return tail{}, err
	}
	defer f.Close()
	t := tail{chain: chain{keys: keys}}
	ls := readLines(f)
	for {
		b, err := ls.next()
		here := place{s.name(), ls.n, max(s.first, t.chain.seq+1)}
		switch {
		case err == io.EOF && ls.n > 0:
			return t, nil
		case err == io.EOF:
			return t, here.broken(errEmpty)
		case err == errTorn && ls.n > 0:
			return t, t.cut(fsys, s)
		case err == errTorn || err == errLong:
			here.line++
			return t, here.broken(err)
		case err != nil:
			return t, err
		}
		e, err := t.take(s, b, head)
		if err != nil {
			if ls.n > 1 && !json.Valid(b) && ls.ended() {
				return t, t.cut(fsys, s)
			}
			return t, here.broken(err)
		}
		if ls.n == 1 {
			t.began, t.prev = e.Time, e.Prev
		}
		t.end = ls.end
	}
}

// take verifies the next line of s.
func (t *tail) take(s segment, b []byte, head Head) (Event, error) {
	begins := t.chain.seq == 0
	e, err := t.chain.take(b)
	switch {
	case err != nil:
		return Event{}, err
	case begins && e.Seq != s.first:
		return Event{}, fmt.Errorf("a segment of this name begins with line %d, not %d", s.first, e.Seq)
	case e.Seq == head.Seq && string(b) != head.Line:
		return Event{}, errors.New("this line is not the head that head.json has in its place")
	}
	return e, nil
}

// cut takes down what follows the last whole line.
func (t *tail) cut(fsys fs.FS, s segment) error {
	f, err := fsys.Open(s.name())
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(io.Discard, f, t.end); err != nil {
		return err
	}
	h := sha256.New()
	t.torn, err = io.Copy(h, f)
	t.tornHash = fmt.Sprintf("%x", h.Sum(nil))
	return err
}

// checkEnd wants the end that head.json promises.
func checkEnd(segments []segment, t tail, head Head) error {
	last := segmentName(1)
	if len(segments) > 0 {
		last = segments[len(segments)-1].name()
	}
	switch {
	case head.Seq > t.chain.seq:
		return &Broken{File: last, Seq: t.chain.seq + 1, Why: fmt.Sprintf("the end is missing: %s is a signed head of line %d", headFile, head.Seq)}
	case head.Seq == 0 && t.chain.seq > 1:
		// It is there before the first event is taken.
		return &Broken{File: headFile, Why: "it is missing"}
	}
	return nil
}

// readEarlier reads when the segments before the last began, and wants the last to go on where the one before it ends.
func (l *Log) readEarlier(segments []segment, t tail) error {
	if len(segments) < 2 {
		return nil
	}
	for i := range segments[:len(segments)-1] {
		s := &segments[i]
		e, err := l.readFirst(*s)
		if err != nil {
			return &Broken{File: s.name(), Line: 1, Seq: s.first, Why: err.Error()}
		}
		s.began = e.Time
	}
	before := segments[len(segments)-2]
	hash, err := l.lastHash(before)
	if err != nil {
		return err
	}
	if hash != t.prev {
		return &Broken{File: before.name(), Why: "its last line is not the one whose hash the next segment holds"}
	}
	return nil
}

// readFirst reads the first line of a segment.
func (l *Log) readFirst(s segment) (Event, error) {
	f, err := os.Open(l.path(s.name()))
	if err != nil {
		return Event{}, err
	}
	defer f.Close()
	b, err := readLines(f).next()
	if err == io.EOF {
		return Event{}, errEmpty
	}
	if err != nil {
		return Event{}, err
	}
	return parseLine(b)
}

// lastHash is the hash of the last line of a segment.
func (l *Log) lastHash(s segment) (string, error) {
	f, err := os.Open(l.path(s.name()))
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, min(s.size, maxLine+1))
	if _, err := f.ReadAt(b, s.size-int64(len(b))); err != nil {
		return "", err
	}
	b = bytes.TrimSuffix(b, []byte("\n"))
	return hashLine(b[bytes.LastIndexByte(b, '\n')+1:]), nil
}

// beginLog makes the first segment. head.json is there before the first event is taken.
func (l *Log) beginLog() error {
	l.hash = noLine
	if err := l.begin(l.cfg.Clock()); err != nil {
		return err
	}
	return l.publish()
}

// goOn opens the last segment behind its last whole line.
func (l *Log) goOn(segments []segment, t tail) error {
	last := &segments[len(segments)-1]
	f, err := l.cfg.reopen(l.path(last.name()))
	if err != nil {
		return err
	}
	l.file = f
	last.size, last.began = t.end, t.began
	l.segments = segments
	l.seq, l.hash, l.head = t.chain.seq, t.chain.hash, Head{Seq: t.chain.signed}
	l.torn = t.torn > 0
	if err := l.mend(); err != nil {
		return err
	}
	if err := l.prepare(); err != nil {
		return err
	}
	if l.head.Line == "" { // prepare has begun no segment
		if err := l.putHead(becauseOpened); err != nil {
			return err
		}
	}
	if err := l.publish(); err != nil || t.torn == 0 {
		return err
	}
	return l.sayTorn(last.name(), t)
}

// sayTorn writes down what was cut off.
func (l *Log) sayTorn(file string, t tail) error {
	l.cfg.Log.Warn("audit: the rest of a line that was never whole is cut off", "file", file, "bytes", t.torn)
	_, err := l.add(Event{
		Kind: Torn, Object: file, Why: "the end of the file was no whole line: its writer was killed, or the power was lost",
		Detail: map[string]string{"bytes": strconv.FormatInt(t.torn, 10), "sha256": t.tornHash},
	})
	return err
}
