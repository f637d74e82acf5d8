package terminal

import "bytes"

// maxRing is what is kept of the output for who joins.
const maxRing = 1 << 20

// A ring is the end of the output. Its zero value is empty.
type ring struct {
	bytes []byte
	start int  // of the oldest byte, once it has gone round
	round bool // the oldest bytes are lost
}

func (r *ring) write(p []byte) {
	if len(p) > maxRing {
		p = p[len(p)-maxRing:]
	}
	if n := min(len(p), maxRing-len(r.bytes)); n > 0 {
		r.bytes = append(r.bytes, p[:n]...)
		p = p[n:]
	}
	for len(p) > 0 {
		n := copy(r.bytes[r.start:], p)
		r.start, r.round, p = (r.start+n)%maxRing, true, p[n:]
	}
}

// pieces are the output in order. What is not all of it begins with a line.
func (r *ring) pieces(size int) (pieces [][]byte) {
	all := append(append([]byte(nil), r.bytes[r.start:]...), r.bytes[:r.start]...)
	if i := bytes.IndexByte(all, '\n'); r.round && i >= 0 {
		all = all[i+1:]
	}
	for len(all) > 0 {
		n := min(size, len(all))
		pieces, all = append(pieces, all[:n]), all[n:]
	}
	return pieces
}
