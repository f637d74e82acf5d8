package terminal

import (
	"bytes"
	"encoding/base64"
	"unicode/utf8"
)

// A filter takes out of a program's output what a terminal in a browser must not obey, whatever the cuts between writes:
//
//   - OSC 52, which sets and asks for the clipboard: what sets it passes whole where policy says so, nothing else;
//   - control sequences with numbers that would keep a terminal busy, and those that have it repeat a window's title as input;
//   - C1 controls and bytes that are not UTF-8, which terminals read in different ways.
//
// What it lets through is UTF-8, and no sequence of it begins before the one before has ended. It reads as xterm.js does:
// C0 controls inside a sequence are obeyed at once, and ESC, CAN and SUB end one.
type filter struct {
	clipboard func(content []byte) bool // whether it may be set; called with what it would be set to

	state func(*filter, byte)
	char  []byte // of a character that is not whole yet
	held  []byte // of a sequence that is not decided yet
	in    place
	old   bool // a string of before OSC passes, which is not told from text
	out   []byte

	modes modes  // by what has passed
	marks []mark // in out
	next  int    // from where on in out there is to be another
}

// A mark is a place in the output where nothing has begun: from there on a terminal with these modes shows it as it is.
type mark struct {
	at    int
	modes modes
}

// There is a mark at the first line after markEvery bytes; where no line comes in markLate more, at anything else.
const markEvery, markLate = 4 << 10, 32 << 10

// What is held is bounded: a clipboard, and what no other sequence comes near.
const (
	maxClipboard = 1 << 20
	maxSequence  = 256
	maxNumber    = 65535 // of lines, columns and repetitions
)

const esc, bel, can, sub, del = 0x1b, 0x07, 0x18, 0x1a, 0x7f

func newFilter(clipboard func([]byte) bool) *filter {
	return &filter{clipboard: clipboard, state: (*filter).ground}
}

// pass returns what of p, and of what was held before, may be written. It is valid until the next call, as marks are.
func (f *filter) pass(p []byte) []byte {
	f.next -= len(f.out)
	f.out, f.marks = f.out[:0], f.marks[:0]
	if len(f.char)+len(f.held) == 0 && f.in == inNothing && !f.old {
		f.mark(markLate)
	}
	for _, b := range p {
		f.decode(b)
	}
	return f.out
}

// decode makes characters of bytes. One of several bytes is text wherever it comes.
func (f *filter) decode(b byte) {
	if len(f.char) > 0 || b >= utf8.RuneSelf {
		f.char = append(f.char, b)
		if !utf8.FullRune(f.char) {
			return
		}
		r, n := utf8.DecodeRune(f.char)
		rest := append([]byte(nil), f.char[n:]...)
		f.char = f.char[:0]
		if r >= 0xa0 {
			f.text(utf8.AppendRune(nil, r))
		}
		for _, b := range rest {
			f.decode(b)
		}
		return
	}
	f.state(f, b)
}

// text passes a character outside of ASCII: as text, or as part of a string. What else it stands in it ends.
func (f *filter) text(char []byte) {
	switch f.in {
	case inNumber, inClipboard, inDropped:
		f.held, f.state, f.in = f.held[:0], (*filter).drop, inDropped
		return
	case inNothing:
		f.reset() // an escape or control sequence comes to nothing
	}
	f.out = append(f.out, char...)
}

// A place is where in an OSC the next byte stands.
type place int

const (
	inNothing place = iota // in none
	inNumber
	inString
	inDropped
	inClipboard
)

func (f *filter) ground(b byte) {
	if b == esc {
		f.old = false
		f.mark(markLate)
		f.held = append(f.held[:0], esc)
		f.state = (*filter).escape
		return
	}
	f.out = append(f.out, b)
	switch {
	case b >= ' ':
	case b == can, b == sub:
		f.old = false
	case b == '\n' && !f.old:
		f.mark(0)
	}
}

func (f *filter) mark(late int) {
	if len(f.out) >= f.next+late {
		f.marks = append(f.marks, mark{len(f.out), f.modes})
		f.next = len(f.out) + markEvery
	}
}

// sequence passes the one that is held, and follows what it switches. There is a mark before the alternate screen, one at its
// beginning and one at its end; what switches is part of it.
func (f *filter) sequence() {
	was := f.modes
	f.modes.follow(f.held)
	switched := was.is(alternate) != f.modes.is(alternate)
	if switched && f.modes.is(alternate) {
		f.marks = append(f.marks, mark{len(f.out), was}, mark{len(f.out), f.modes})
	}
	f.out = append(f.out, f.held...)
	if switched && was.is(alternate) {
		f.marks = append(f.marks, mark{len(f.out), f.modes})
	}
}

// control deals with what ends a sequence, or is obeyed inside of one; false if b is neither.
func (f *filter) control(b byte) bool {
	switch {
	case b == esc:
		f.in = inNothing
		f.ground(b)
	case b == can, b == sub:
		f.reset()
	case b < ' ':
		f.out = append(f.out, b)
	case b == del:
	default:
		return false
	}
	return true
}

func (f *filter) reset() {
	f.held, f.in, f.state = f.held[:0], inNothing, (*filter).ground
}

func (f *filter) escape(b byte) {
	if f.control(b) {
		return
	}
	f.held = append(f.held, b)
	switch b {
	case '[':
		f.state = (*filter).csi
	case ']':
		f.state, f.in = (*filter).oscNumber, inNumber
	default:
		f.old = b == 'P' || b == 'X' || b == '^' || b == '_'
		f.sequence()
		f.reset()
	}
}

func (f *filter) csi(b byte) {
	if f.control(b) {
		return
	}
	if f.held = append(f.held, b); len(f.held) > maxSequence {
		f.held = f.held[:maxSequence] // and no more: it is too long to be obeyed
	}
	if b >= 0x40 {
		if len(f.held) < maxSequence && harmless(f.held[2:len(f.held)-1], b) {
			f.sequence()
		}
		f.reset()
	}
}

// harmless says whether a control sequence has no number that is too large, and asks for no title.
func harmless(params []byte, final byte) bool {
	n, first, firstDone := 0, 0, false
	for _, b := range params {
		if b < '0' || b > '9' {
			n, firstDone = 0, true
			continue
		}
		if n = n*10 + int(b-'0'); n > maxNumber {
			return false
		}
		if !firstDone {
			first = n
		}
	}
	return final != 't' || first != 20 && first != 21
}

// oscNumber reads which command it is.
func (f *filter) oscNumber(b byte) {
	switch {
	case b == bel:
		f.reset() // a command without a string
	case f.control(b):
	case b >= '0' && b <= '9' && len(f.held) < maxSequence:
		f.held = append(f.held, b)
	case b == ';' && string(bytes.TrimLeft(f.held[2:], "0")) == "52":
		f.held, f.state, f.in = append(f.held[:0], "52;"...), (*filter).clip, inClipboard
	case b == ';' && len(f.held) > 2:
		f.out = append(append(f.out, f.held...), ';')
		f.held, f.state, f.in = f.held[:0], (*filter).osc, inString
	default:
		f.held, f.state, f.in = f.held[:0], (*filter).drop, inDropped
	}
}

// osc passes the string of a command.
func (f *filter) osc(b byte) {
	switch {
	case b == esc: // which passes with the backslash after it
		f.in = inNothing
		f.ground(b)
	case b == bel, b == can, b == sub:
		f.out = append(f.out, b)
		f.reset()
	case b >= ' ':
		f.out = append(f.out, b)
	}
}

// drop leaves out the rest of a string.
func (f *filter) drop(b byte) {
	f.in = inDropped
	switch b {
	case bel, can, sub:
		f.reset()
	case esc:
		f.held, f.state = append(f.held[:0], esc), (*filter).dropped
	}
}

// dropped leaves out the backslash after a string that is left out.
func (f *filter) dropped(b byte) {
	f.in = inNothing
	if b == '\\' {
		f.reset()
		return
	}
	f.state = (*filter).escape
	f.escape(b)
}

// clip collects what the clipboard is to be set to.
func (f *filter) clip(b byte) {
	switch {
	case b == bel:
		f.setClipboard()
		f.reset()
	case b == esc:
		f.setClipboard()
		f.held, f.state = append(f.held[:0], esc), (*filter).dropped
		f.in = inDropped
	case b == can, b == sub:
		f.reset()
	case b < ' ', b == del:
	case len(f.held) >= maxClipboard:
		f.held, f.state, f.in = nil, (*filter).drop, inDropped
	default:
		f.held = append(f.held, b)
	}
}

// setClipboard passes the command on, in its plain form, if it sets the clipboard and may.
func (f *filter) setClipboard() {
	_, encoded, _ := bytes.Cut(f.held[len("52;"):], []byte(";"))
	content, err := base64.StdEncoding.DecodeString(string(encoded))
	if err != nil || len(content) == 0 || !f.clipboard(content) {
		return
	}
	f.out = append(f.out, "\x1b]52;c;"...)
	f.out = append(f.out, encoded...)
	f.out = append(f.out, bel)
}
