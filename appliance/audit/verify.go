package audit

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"
)

// A Verifier says whether a log is whole.
type Verifier struct {
	Keys    []ed25519.PublicKey // the appliance's, and those that it had before
	Witness []Head              // heads that were kept elsewhere: the log must have each of them
}

// A Report is what a Verifier has found. Where it has found a fault too, the report is of what comes before.
type Report struct {
	Segments    int
	First, Last uint64 // numbers of lines
	Began, Ends time.Time
	Heads       int
	Head        Head   // the last one
	Unsigned    uint64 // lines after it, which no signature covers yet
	Removed     uint64 // lines up to this number were removed by retention, as the log itself says
}

// A Broken error names the first line that is not as it was written.
type Broken struct {
	File string
	Line int    // in the file, from 1; 0 where it is about the whole file
	Seq  uint64 // the number that the line should have; 0 where that is not known
	Why  string
}

func (b *Broken) Error() string {
	switch {
	case b.Line == 0:
		return fmt.Sprintf("%s: %s", b.File, b.Why)
	case b.Seq == 0:
		return fmt.Sprintf("%s, line %d: %s", b.File, b.Line, b.Why)
	}
	return fmt.Sprintf("%s, line %d (seq %d): %s", b.File, b.Line, b.Seq, b.Why)
}

// Verify verifies the log in a folder, such as os.DirFS(dir), with the appliance's public key. An error that is a *Broken
// says where the log is not whole; another one, that it could not be read.
func Verify(fsys fs.FS, key ed25519.PublicKey) (Report, error) {
	return Verifier{Keys: []ed25519.PublicKey{key}}.Verify(fsys)
}

// Verify verifies the log in a folder. The log may be written meanwhile.
func (v Verifier) Verify(fsys fs.FS) (Report, error) {
	for try := 1; ; try++ {
		r, err := v.verify(fsys)
		if try < 5 && errors.Is(err, fs.ErrNotExist) {
			continue // retention has taken a segment meanwhile
		}
		return r, err
	}
}

func (v Verifier) verify(fsys fs.FS) (Report, error) {
	// First of all, so that the log cannot be older than what it says.
	head, headErr := readHead(fsys, v.Keys)
	r := &verification{fsys: fsys, chain: chain{keys: v.Keys}, wanted: map[uint64]string{}}
	for _, w := range v.Witness {
		r.wanted[w.Seq] = w.Line
	}
	if headErr == nil {
		if witness, ok := r.wanted[head.Seq]; ok && witness != head.Line {
			return r.Report, &Broken{File: headFile, Why: fmt.Sprintf("its head, seq %d, is not the one that was kept as a witness", head.Seq)}
		}
		r.wanted[head.Seq] = head.Line
	}
	segments, err := listSegments(fsys)
	if err != nil {
		return r.Report, fmt.Errorf("list segments: %w", err)
	}
	for _, s := range segments {
		if err := r.segment(s); err != nil {
			return r.Report, err
		}
	}
	return r.Report, r.finish(head, headErr)
}

// place is where a line stands.
type place struct {
	file string
	line int
	seq  uint64
}

func (p place) broken(why error) error { return &Broken{p.file, p.line, p.seq, why.Error()} }

type verification struct {
	Report
	fsys    fs.FS
	chain   chain
	at      place             // the latest line that the chain took
	wanted  map[uint64]string // heads that must be there, by number
	removal uint64            // retention says so, in a line that no head covers yet
}

// segment verifies a segment.
func (v *verification) segment(s segment) error {
	f, err := v.fsys.Open(s.name())
	if err != nil {
		return err
	}
	defer f.Close()
	ls := readLines(f)
	for {
		b, err := ls.next()
		if err == io.EOF && ls.n == 0 {
			return &Broken{File: s.name(), Why: errEmpty.Error()}
		}
		if err == io.EOF {
			v.Segments++
			return nil
		}
		here := place{s.name(), ls.n, v.chain.seq + 1}
		if v.chain.seq == 0 {
			here.seq = s.first
		}
		if err == errTorn || err == errLong {
			here.line++
			return here.broken(err)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
		if err := v.line(s, here, b); err != nil {
			if err == errPrev {
				return v.blame(here, b, ls)
			}
			return here.broken(err)
		}
	}
}

// line verifies a line. What it says of itself is part of the report once a head covers it.
func (v *verification) line(s segment, here place, b []byte) error {
	e, err := v.chain.take(b)
	if err != nil {
		return err
	}
	if here.line == 1 && (e.Seq != s.first || e.Kind != HeadKind) {
		return fmt.Errorf("a segment of this name begins with a head, line %d; this is line %d, %q", s.first, e.Seq, e.Kind)
	}
	if want, ok := v.wanted[e.Seq]; ok && want != string(b) {
		return errors.New("this line is not the head that head.json or a witness has in its place")
	}
	delete(v.wanted, e.Seq)
	if v.First == 0 {
		v.First, v.Began = e.Seq, e.Time
	}
	v.Last, v.Ends, v.at = e.Seq, e.Time, here
	v.Unsigned++
	switch e.Kind {
	case Retention:
		v.removal = max(v.removal, removedThrough(e))
	case HeadKind:
		v.Heads, v.Head, v.Unsigned = v.Heads+1, Head{e.Seq, e.Time, string(b)}, 0
		v.Removed = v.removal
	}
	return nil
}

// blame names the broken one of two lines that disagree: the latest that the chain took, and b, which stands at here. A
// signature of the latter, or the line after it, tells.
func (v *verification) blame(here place, b []byte, ls *lines) error {
	e, err := parseLine(b)
	if err != nil {
		return here.broken(err)
	}
	hash := hashLine(b)
	whole := e.Kind == HeadKind && checkHead(e, b, v.chain.keys) == nil
	told := whole
	if !whole {
		if b, err := ls.next(); err == nil {
			next, err := parseLine(b)
			told = err == nil
			whole = told && next.Seq == e.Seq+1 && next.Prev == hash
		}
	}
	switch {
	case whole:
		return v.at.broken(errors.New("this line has been changed: the next one, which is whole, holds another hash of it"))
	case told:
		return here.broken(errors.New("this line has been changed: neither the line before nor the line after agrees with it"))
	}
	return here.broken(errPrev)
}

// finish looks at what no single line shows.
func (v *verification) finish(head Head, headErr error) error {
	switch {
	case v.Segments == 0:
		return &Broken{File: segmentName(1), Why: "there are no segments"}
	case headErr != nil:
		return &Broken{File: headFile, Why: headErr.Error()}
	case v.First-1 > v.Removed:
		return &Broken{File: segmentName(v.Removed + 1), Seq: v.Removed + 1,
			Why: fmt.Sprintf("lines %d to %d are missing, and the log does not say that retention removed them", v.Removed+1, v.First-1)}
	}
	for _, seq := range slices.Sorted(maps.Keys(v.wanted)) {
		if seq > v.Last {
			return &Broken{File: v.at.file, Line: v.at.line + 1, Seq: v.Last + 1,
				Why: fmt.Sprintf("the end is missing: there is a signed head of line %d", seq)}
		}
	}
	if head.Seq < v.First {
		// Retention may have come this far since the head was read; then there is another one by now.
		if now, err := readHead(v.fsys, v.chain.keys); err != nil || now.Seq < v.First {
			return &Broken{File: headFile, Why: fmt.Sprintf("its head, seq %d, is older than all lines", head.Seq)}
		}
	}
	return nil
}
