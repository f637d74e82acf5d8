package terminal

import (
	"bytes"
	"cmp"
	"fmt"
)

// modes are what programs switch in a terminal and what no painting shows: to who joins a session without them, keys, the
// mouse and pastes would mean something else than to the program. They are those that xterm.js has, as it takes them. The zero
// value is a terminal that is reset.
type modes struct {
	changed         uint16 // a bit for each of the switches that is not as it is at first
	mouse, encoding uint16 // what is told of the mouse, and how; 0: nothing, and as it was told first
	cursor          byte   // its shape; 0: the person's own
}

// The switches that others ask for.
const alternate, bracketed = 1 << 0, 1 << 1

var switches = [...]struct {
	private bool
	number  int
	first   bool
}{
	{true, 1049, false}, // the alternate screen
	{true, 2004, false}, // brackets around pastes
	{true, 1, false},    // arrows of applications
	{true, 66, false},   // the keypad of applications
	{true, 25, true},    // the cursor is shown
	{true, 1004, false}, // focus is told
	{true, 6, false},    // lines are counted from a margin
	{true, 7, true},     // lines are wrapped
	{true, 45, false},   // backwards too
	{false, 4, false},   // characters are inserted
}

func (m modes) is(s uint16) bool { return m.changed&s != 0 }

// follow takes a sequence of one character, or a control sequence, that is whole.
func (m *modes) follow(seq []byte) {
	last := len(seq) - 1
	params, final := seq[2:max(2, last)], seq[last]
	switch {
	case seq[1] != '[':
		switch final {
		case '=', '>':
			m.set(true, 66, final == '=')
		case 'c':
			*m = modes{}
		}
	case final == 'h', final == 'l':
		params, private := bytes.CutPrefix(params, []byte("?"))
		if len(bytes.Trim(params, "0123456789;")) > 0 {
			return
		}
		n := 0
		for _, b := range params {
			if b != ';' {
				n = n*10 + int(b-'0')
				continue
			}
			m.set(private, n, final == 'h')
			n = 0
		}
		m.set(private, n, final == 'h')
	case final == 'p' && string(params) == "!": // a soft reset
		m.changed, m.cursor = m.changed&alternate, 0
	case final == 'q' && len(params) == 2 && params[1] == ' ' && params[0] >= '0' && params[0] <= '6':
		m.cursor = params[0] - '0'
	}
}

func (m *modes) set(private bool, number int, on bool) {
	if private {
		switch number {
		case 9, 1000, 1002, 1003:
			m.mouse = chosen(number, on)
		case 1006, 1016:
			m.encoding = chosen(number, on)
		case 47, 1047:
			number = 1049
		}
	}
	for i, s := range switches {
		if s.private != private || s.number != number {
			continue
		}
		if m.changed &^= 1 << i; on != s.first {
			m.changed |= 1 << i
		}
	}
}

func chosen(number int, on bool) uint16 {
	if on {
		return uint16(number)
	}
	return 0
}

// change is what a program would say to have other modes.
func change(from, to modes) (b []byte) {
	say := func(private bool, number int, on bool) {
		mark, final := "", 'l'
		if private {
			mark = "?"
		}
		if on {
			final = 'h'
		}
		b = fmt.Appendf(b, "\x1b[%s%d%c", mark, number, final)
	}
	for i, s := range switches {
		if now := to.is(1 << i); now != from.is(1<<i) {
			say(s.private, s.number, now != s.first)
		}
	}
	if from.mouse != to.mouse {
		say(true, int(cmp.Or(to.mouse, from.mouse)), to.mouse != 0)
	}
	if from.encoding != to.encoding {
		say(true, int(cmp.Or(to.encoding, from.encoding)), to.encoding != 0)
	}
	if from.cursor != to.cursor {
		b = fmt.Appendf(b, "\x1b[%d q", to.cursor)
	}
	return b
}
