package terminal

import (
	"sallyport/appliance"
	"sallyport/appliance/audit"
	"sallyport/appliance/policy"
	"sallyport/frame"
)

// maxPaste is how long a text may be that is pasted. It is held until all of it is there: so it is written down before any
// of it is typed, and nobody who leaves meanwhile leaves a half of it behind.
const maxPaste = 4 << 20

var errPaste = frame.Refuse("E_USAGE", "a paste has 4 MiB at most", "send it as a file")

var pasteBegins, pasteEnds = []byte("\x1b[200~"), []byte("\x1b[201~")

// paste types a text that comes from a clipboard, if it may. What is written down of it is how it was there.
func (t *shell) paste(side *appliance.Side, text []byte) error {
	if len(text) == 0 {
		return nil
	}
	defer clear(text) // it may have been a password
	if err := clipboardEvent(side, policy.ClipboardIn, audit.ClipboardIn, text); err != nil {
		return notice(side, err)
	}
	t.mu.Lock()
	told := t.filter.modes.is(bracketed)
	t.mu.Unlock()
	if told {
		return t.write(pasteBegins, typed(text), pasteEnds)
	}
	return t.write(typed(text))
}

// typed is what a program reads of a text, in its place: a line ends with a carriage return, as with the key. Control
// characters but tabs are left out: some would end the brackets, or interrupt the program that waits for them, and what follows
// would be commands.
func typed(text []byte) []byte {
	keys, before := text[:0], byte(0)
	for _, b := range text {
		switch {
		case b == '\n' && before == '\r': // one end of a line
		case b == '\n', b == '\r':
			keys = append(keys, '\r')
		case b >= ' ' && b != del, b == '\t':
			keys = append(keys, b)
		}
		before = b
	}
	return keys
}
