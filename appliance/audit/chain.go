package audit

import (
	"crypto/ed25519"
	"errors"
	"fmt"
)

// A chain follows lines and says which of them breaks it.
type chain struct {
	keys []ed25519.PublicKey

	seq    uint64 // of the latest line; 0 before the first
	hash   string // of the latest line
	signed uint64 // the latest head's number
	closed bool   // the latest line is a head that says that the log was closed
}

// errPrev is that a line and the one before it disagree, whichever of them has been changed.
var errPrev = errors.New("this line holds another hash of the line before it: one of the two has been changed")

// take is given each line without its newline, in order. A chain begins with a head: its signature vouches for the hash
// that it holds of a line that is not there.
func (c *chain) take(b []byte) (Event, error) {
	e, err := parseLine(b)
	if err != nil {
		return Event{}, err
	}
	isHead := e.Kind == HeadKind
	switch {
	case c.seq == 0 && !isHead:
		return Event{}, fmt.Errorf("the first line is no head but %q", e.Kind)
	case c.seq == 0 && e.Seq == 1 && e.Prev != noLine:
		return Event{}, errors.New("line 1 holds the hash of a line before it")
	case c.seq != 0 && e.Seq != c.seq+1:
		return Event{}, fmt.Errorf("line %d is here instead of line %d", e.Seq, c.seq+1)
	case c.seq != 0 && e.Prev != c.hash:
		return Event{}, errPrev
	case c.closed && !isHead:
		return Event{}, errors.New("this line was put in while the log was closed")
	}
	if isHead {
		if err := checkHead(e, b, c.keys); err != nil {
			return Event{}, err
		}
		if c.signed != 0 && e.Count != e.Seq-c.signed-1 {
			return Event{}, fmt.Errorf("this head counts %d lines since the one before, there are %d", e.Count, e.Seq-c.signed-1)
		}
		c.signed = e.Seq
	}
	c.seq, c.hash, c.closed = e.Seq, hashLine(b), isHead && e.Why == becauseClosing
	return e, nil
}
