package wire

import (
	"container/heap"
	"time"
)

// maxHeld is how many bytes of buffers one direction keeps: 200 ms at 5 Gbit/s.
const maxHeld = 128 << 20

// never is when nothing is due.
const never = time.Duration(1<<63 - 1)

// A packet is a frame on its way. Times are the link's own, from its beginning.
type packet struct {
	memory []byte // as large as the largest frame
	frame  []byte // what of it is filled

	arrived time.Duration
	delay   time.Duration // from the end of the queue to the NIC
	ordered bool          // it must not overtake
	due     time.Duration
	turn    uint64 // who came first, of those with the same due
}

// A shaper decides what happens to the packets of one direction. It does not know the time: whoever calls it does, so
// that a test can make it up.
type shaper struct {
	Impairment
	seed   uint64
	number uint64 // of the next packet
	bad    bool   // a burst of losses is under way
	stats  Stats

	queue  []*packet // waits for the rate
	queued int       // bytes in queue
	free   time.Duration
	flying flight        // waits for its time
	last   time.Duration // the latest due of a packet that must not be overtaken
	turns  uint64

	answers [][]byte // frames that go back
	size    int      // of packets' memory
	pool    []*packet
}

// Every choice has a chance of its own for each packet.
type choice uint64

const (
	byLoss choice = iota
	byBurst
	byReorder
	byDuplicate
	byCorrupt
	byBit
	byJitter
	choices
)

func newShaper(seed uint64, d Direction, size int) *shaper {
	return &shaper{seed: mix(mix(seed) + uint64(d)), size: size}
}

// chance is one number of the SplitMix64 sequence: packet n's for c.
func (s *shaper) chance(n uint64, c choice) uint64 {
	return mix(s.seed + (n*uint64(choices)+uint64(c))*0x9e3779b97f4a7c15)
}

func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// happens says whether packet n is among a share of all.
func (s *shaper) happens(n uint64, c choice, share float64) bool {
	return s.fraction(n, c) < share
}

// fraction is evenly spread from 0 to 1, without 1.
func (s *shaper) fraction(n uint64, c choice) float64 {
	return float64(s.chance(n, c)>>11) / (1 << 53)
}

// set takes effect on the packets that come from now on, and on how fast the queue empties.
func (s *shaper) set(i Impairment) {
	s.Impairment = i.withDefaults()
	s.bad = s.bad && i.Burst > 0
}

// take gives memory for a packet.
func (s *shaper) take() *packet {
	if n := len(s.pool); n > 0 {
		p := s.pool[n-1]
		s.pool = s.pool[:n-1]
		return p
	}
	return &packet{memory: make([]byte, s.size)}
}

func (s *shaper) give(p *packet) { s.pool = append(s.pool, p) }

// admit decides about a frame that has come in; the packet is the shaper's from now on.
func (s *shaper) admit(p *packet, now time.Duration) {
	s.stats.Received++
	p.arrived, p.delay, p.ordered = now, s.Delay, false
	h := parse(p.frame)
	if h.spared {
		s.depart(p, now)
		return
	}
	n := s.number
	s.number++
	burst := s.burst(n)
	count := &s.stats.Holed
	switch {
	case s.Hole.swallows(h):
	case s.happens(n, byLoss, s.Loss):
		count = &s.stats.Lost
	case burst:
		count = &s.stats.BurstLost
	case s.MTU > 0 && h.size() > s.MTU:
		count = &s.stats.TooBig
		if s.TooBig {
			if b := tooBig(p.frame, h, s.MTU); b != nil {
				s.answers = append(s.answers, b)
			}
		}
	default:
		s.pass(p, n, h)
		return
	}
	*count++
	s.give(p)
}

// burst is Gilbert's and Elliott's chain: one step a packet, whatever else happens to it.
func (s *shaper) burst(n uint64) bool {
	switch {
	case s.Burst == 0:
		return false
	case s.bad:
		s.bad = !s.happens(n, byBurst, 1/s.BurstLength)
	default:
		s.bad = s.happens(n, byBurst, s.Burst)
	}
	return s.bad
}

// pass is for packets that have survived.
func (s *shaper) pass(p *packet, n uint64, h headers) {
	if s.happens(n, byCorrupt, s.Corrupt) {
		flip(p.frame, h, s.chance(n, byBit))
		s.stats.Corrupted++
	}
	p.ordered = !s.Unordered
	p.delay += time.Duration(s.fraction(n, byJitter) * float64(s.Jitter))
	if s.happens(n, byReorder, s.Reorder) {
		p.delay += s.Late
		p.ordered = false
		s.stats.Late++
	}
	var copied *packet
	if s.happens(n, byDuplicate, s.Duplicate) {
		copied = s.take()
		copied.frame = copied.memory[:copy(copied.memory, p.frame)]
		copied.arrived, copied.delay, copied.ordered = p.arrived, p.delay, p.ordered
		s.stats.Duplicated++
	}
	s.enqueue(p)
	if copied != nil {
		s.enqueue(copied)
	}
}

// enqueue lets a packet wait for the rate. Whoever finds nobody there may wait, however long his frame takes.
func (s *shaper) enqueue(p *packet) {
	limit := s.QueueBytes
	if limit == 0 {
		limit = int(s.QueueTime.Seconds() * float64(s.Rate))
	}
	switch {
	case (len(s.queue)+len(s.flying))*s.size >= maxHeld:
		s.stats.Crowded++
		s.give(p)
	case s.Rate == 0 && len(s.queue) == 0:
		s.depart(p, p.arrived)
	case len(s.queue) > 0 && s.Rate > 0 && s.queued+len(p.frame) > limit:
		s.stats.QueueFull++
		s.give(p)
	default:
		s.queue = append(s.queue, p)
		s.queued += len(p.frame)
	}
}

// depart sends a packet off at a time that may be past.
func (s *shaper) depart(p *packet, at time.Duration) {
	p.due = at + p.delay
	if p.ordered {
		p.due = max(p.due, s.last)
		s.last = p.due
	}
	p.turn = s.turns
	s.turns++
	heap.Push(&s.flying, p)
}

// head is when the first of the queue has passed the rate.
func (s *shaper) head() time.Duration {
	if len(s.queue) == 0 {
		return never
	}
	at := max(s.free, s.queue[0].arrived)
	if s.Rate > 0 {
		at += time.Duration(float64(len(s.queue[0].frame)) / float64(s.Rate) * float64(time.Second))
	}
	return at
}

// due appends the packets whose time has come.
func (s *shaper) due(out []*packet, now time.Duration) []*packet {
	for at := s.head(); at <= now; at = s.head() {
		p := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		s.queued -= len(p.frame)
		s.free = at
		s.depart(p, at)
	}
	for len(s.flying) > 0 && s.flying[0].due <= now {
		out = append(out, heap.Pop(&s.flying).(*packet))
	}
	return out
}

// next is when there will be something to do: never, if nothing waits.
func (s *shaper) next() time.Duration {
	at := s.head()
	if len(s.flying) > 0 {
		at = min(at, s.flying[0].due)
	}
	return at
}

// flight is a heap of packets, the first due on top.
type flight []*packet

func (f flight) Len() int { return len(f) }
func (f flight) Less(i, j int) bool {
	return f[i].due < f[j].due || f[i].due == f[j].due && f[i].turn < f[j].turn
}
func (f flight) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flight) Push(p any)   { *f = append(*f, p.(*packet)) }
func (f *flight) Pop() any {
	last := len(*f) - 1
	p := (*f)[last]
	(*f)[last] = nil
	*f = (*f)[:last]
	return p
}
