package frame

import "sync"

// A slab holds the bytes of one DATA frame. On the way out its head has room for the frame's header and an ACK frame
// before it, so that one write sends all three.
//
// Two sizes: keystrokes must not pin 64 KiB each until they are acknowledged, and bulk must not be cut into small
// frames (one system call and one AEAD record sequence a frame).
const (
	headroom  = HeaderSize + 16 + HeaderSize // ACK frame, DATA header
	smallSlab = 4 << 10
	largeSlab = 64 << 10 // MaxData exactly, for what arrives; fullData on the way out

	// fullData is the payload of a DATA frame of a flow that moves much: 45 TCP segments of Ethernet's size with
	// timestamps, which a userspace stack hands to its device as one. A full 64 KiB would not fit into one, and every frame
	// would leave a segment of some hundred bytes behind: that is half the throughput of an upload.
	fullData = 45 * 1448

	// largeFrame is the size from which a frame is one of a flow that moves much. Who has passed one on lets the others of
	// the process have their turn: Go takes the CPU from a goroutine that never waits only after 10 ms, and a keystroke
	// beside eight such flows over HTTPS had a median of 20 to 35 ms instead of 8 to 14 there and back.
	largeFrame = 16 << 10
)

type slab struct {
	mem      []byte
	from, to int    // payload is mem[from:to]
	offset   uint64 // of mem[from] in its direction
	pinned   bool   // a write of it is under way
	dropped  bool   // to be freed when that write has returned
	free     bool   // in the pool
}

var pools = [2]sync.Pool{
	{New: func() any { return &slab{mem: make([]byte, smallSlab), free: true} }},
	{New: func() any { return &slab{mem: make([]byte, largeSlab), free: true} }},
}

func poolOf(size int) *sync.Pool {
	if size <= smallSlab {
		return &pools[0]
	}
	return &pools[1]
}

// newSlab returns an empty slab of at least size bytes, which is at most largeSlab.
func newSlab(size int) *slab {
	b := poolOf(size).Get().(*slab)
	b.from, b.to, b.offset, b.pinned, b.dropped, b.free = 0, 0, 0, false, false, false
	return b
}

// release gives b back. Releasing twice, or while a write of b is under way, would hand one flow's bytes to another.
func (b *slab) release() {
	if b.free || b.pinned {
		panic("frame: a slab was released twice, or while it was being sent")
	}
	b.free = true
	poolOf(len(b.mem)).Put(b)
}

// A queue is a first-in-first-out list of slabs. Its zero value is empty.
type queue struct {
	slabs []*slab
	head  int
}

func (q *queue) len() int { return len(q.slabs) - q.head }

func (q *queue) at(i int) *slab { return q.slabs[q.head+i] }

func (q *queue) push(b *slab) { q.slabs = append(q.slabs, b) }

func (q *queue) pop() *slab {
	b := q.slabs[q.head]
	q.slabs[q.head] = nil
	q.head++
	switch {
	case q.head == len(q.slabs):
		// An idle flow holds nothing, so its queue keeps no array either, unless it is a small one.
		if cap(q.slabs) > 8 {
			q.slabs = nil
		}
		q.slabs, q.head = q.slabs[:0], 0
	case q.head > 32 && q.head > len(q.slabs)/2:
		n := copy(q.slabs, q.slabs[q.head:])
		clear(q.slabs[n:])
		q.slabs, q.head = q.slabs[:n], 0
	}
	return b
}
