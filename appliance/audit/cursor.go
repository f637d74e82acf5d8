package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// A Record is a line and what it says.
type Record struct {
	Event Event
	Line  []byte // without its newline
}

// A cursor reads the lines of a log that is being written, never more of them than are whole.
type cursor struct {
	log  *Log
	next uint64 // the number of the line to be read

	f     *os.File // of the segment, nil before the first
	first uint64   // its first line
	at    int64    // where line seq begins in it
	seq   uint64
}

func (l *Log) cursor(next uint64) *cursor { return &cursor{log: l, next: next} }

func (c *cursor) close() {
	if c.f != nil {
		c.f.Close()
		c.f = nil
	}
}

// A batch is what a cursor has read at once.
type batch struct {
	records []Record
	size    int
	lost    uint64 // lines before the last of them that retention has removed
}

// read returns the next lines up to number last, of which there must be one: at most so many, and of so many bytes unless
// the first is larger.
func (c *cursor) read(last uint64, maxLines, maxBytes int) (batch, error) {
	var b batch
	for len(b.records) < maxLines && c.next <= last {
		s, err := c.turn(&b)
		if err != nil {
			return b, err
		}
		had := len(b.records)
		full, err := c.collect(&b, s, last, maxLines, maxBytes)
		if err != nil {
			return b, fmt.Errorf("%s: %w", s.name(), err)
		}
		if full {
			break
		}
		if len(b.records) == had {
			return b, fmt.Errorf("%s: line %d is not there any more", s.name(), c.next)
		}
	}
	return b, nil
}

// turn opens the segment of the next line. Where retention has removed that, the next line is the oldest that there is.
func (c *cursor) turn(b *batch) (segment, error) {
	s, oldest := c.log.find(c.next)
	err := c.open(s)
	if errors.Is(err, fs.ErrNotExist) { // retention has taken it meanwhile
		s, oldest = c.log.find(c.next)
		err = c.open(s)
	}
	if err == nil && oldest > c.next {
		b.lost += oldest - c.next
		c.next = oldest
	}
	return s, err
}

// collect reads lines of s into b, and says whether it took less than there is.
func (c *cursor) collect(b *batch, s segment, last uint64, maxLines, maxBytes int) (full bool, err error) {
	begin := c.at
	ls := readLines(io.NewSectionReader(c.f, begin, s.size-begin))
	for c.next <= last {
		if len(b.records) == maxLines {
			return true, nil
		}
		text, err := ls.next()
		if err == io.EOF {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if c.seq == c.next {
			if b.size+len(text) >= maxBytes && len(b.records) > 0 {
				return true, nil
			}
			e, err := parseLine(text)
			if err != nil {
				return false, fmt.Errorf("line %d (seq %d): %w", c.seq-s.first+1, c.seq, err)
			}
			b.records = append(b.records, Record{e, bytes.Clone(text)})
			b.size += len(text) + 1
			c.next++
		}
		c.seq++
		c.at = begin + ls.end
	}
	return true, nil
}

// start is the first line that f may want.
func (l *Log) start(f Filter) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	start := f.After + 1
	for _, s := range l.segments {
		if s.began.Before(f.Since) {
			start = max(start, s.first)
		}
	}
	return start
}

// open turns to segment s.
func (c *cursor) open(s segment) error {
	if c.f != nil && c.first == s.first && c.seq <= c.next {
		return nil
	}
	f, err := os.Open(c.log.path(s.name()))
	if err != nil {
		return err
	}
	c.close()
	c.f, c.first, c.at, c.seq = f, s.first, 0, s.first
	return nil
}

// find returns the segment that has, or will have, line seq, and the oldest line that there is. Where seq is older than
// that, the segment is the oldest.
func (l *Log) find(seq uint64) (s segment, oldest uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s = l.segments[0]
	for _, t := range l.segments {
		if t.first > seq {
			break
		}
		s = t
	}
	return s, l.segments[0].first
}
