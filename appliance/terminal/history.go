package terminal

import "slices"

// What is kept of the output. Programs with a screen of their own paint it again when somebody joins, so less of it does.
const maxNormal, maxAlternate = 768 << 10, 256 << 10

// A history is the end of the output, for who joins. What is painted on the alternate screen is kept apart: however long a
// program does that, what stood there before comes back at its end, as in the terminal of who was there all the time.
type history struct {
	normal, alternate ring
	modes             modes // at the last mark
	below             modes // those that the alternate screen began with
}

func newHistory() *history {
	return &history{normal: newRing(maxNormal), alternate: newRing(maxAlternate)}
}

// write takes what a filter has passed.
func (h *history) write(out []byte, marks []mark) {
	at := 0
	for _, m := range marks {
		h.shown().write(out[at:m.at])
		h.turn(m.modes)
		at = m.at
	}
	h.shown().write(out[at:])
}

func (h *history) shown() *ring {
	if h.modes.is(alternate) {
		return &h.alternate
	}
	return &h.normal
}

// turn is at a mark.
func (h *history) turn(m modes) {
	was := h.modes
	h.modes = m
	switch {
	case m.is(alternate) && !was.is(alternate):
		h.below = was
		h.alternate.clear()
	case was.is(alternate) && !m.is(alternate):
		h.normal.write(change(h.below, m)) // that outlives the alternate screen
	}
	h.shown().mark(m)
}

// replay is what brings a terminal that is reset to where it would be, with the modes that hold now.
func (h *history) replay(now modes) []byte {
	if !h.modes.is(alternate) {
		return h.normal.replay(nil, modes{}, now)
	}
	return h.alternate.replay(h.normal.replay(nil, modes{}, h.below), h.below, now)
}

// A ring keeps the last bytes that are written to it.
type ring struct {
	bytes   []byte
	max     int
	written int // bytes, ever
	marks   []mark
}

func newRing(max int) ring { return ring{max: max, marks: []mark{{}}} }

func (r *ring) clear() { r.bytes, r.written, r.marks = r.bytes[:0], 0, r.marks[:0] }

func (r *ring) write(p []byte) {
	for len(p) > 0 {
		at := r.written % r.max
		n := min(len(p), r.max-at)
		if at == len(r.bytes) { // the first time round
			r.bytes = append(r.bytes, p[:n]...)
		} else {
			copy(r.bytes[at:], p[:n])
		}
		r.written, p = r.written+n, p[n:]
	}
}

func (r *ring) mark(m modes) {
	if last := len(r.marks) - 1; last >= 0 && r.written-r.marks[last].at < markEvery {
		return
	}
	lost := 0
	for lost < len(r.marks) && r.marks[lost].at < r.written-len(r.bytes) {
		lost++
	}
	r.marks = append(slices.Delete(r.marks, 0, lost), mark{r.written, m})
}

// replay appends to b what leads from some modes to those that hold at the end: what is kept from the first mark on.
func (r *ring) replay(b []byte, from, end modes) []byte {
	for _, m := range r.marks {
		if m.at < r.written-len(r.bytes) {
			continue
		}
		b = append(b, change(from, m.modes)...)
		if first, last := m.at%r.max, r.written%r.max; first < last {
			return append(b, r.bytes[first:last]...)
		} else if m.at < r.written {
			return append(append(b, r.bytes[first:]...), r.bytes[:last]...)
		}
		return b
	}
	return append(b, change(from, end)...)
}
