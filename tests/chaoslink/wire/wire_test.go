package wire

import (
	"encoding/binary"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

// datagram is a frame with a numbered UDP datagram, of an IP packet of so many bytes.
func datagram(version, size, number int) []byte {
	b := append(make([]byte, 12), 0x08, 0x00)
	b[0], b[6] = 2, 4
	if version == 4 {
		b = append(b, 0x45, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(size))
		b = append(b, 0, 0, 0x40, 0, 64, protoUDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
	} else {
		b[12], b[13] = 0x86, 0xdd
		b = append(b, 0x60, 0, 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(size-40))
		b = append(b, protoUDP, 64)
		for _, a := range []string{"fd00::1", "fd00::2"} {
			b = append(b, netip.MustParseAddr(a).AsSlice()...)
		}
	}
	udp := len(b)
	b = append(b, 0x10, 0, 0x20, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(etherSize+size-udp))
	b = append(b, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(number))
	return append(b, make([]byte, etherSize+size-len(b))...)
}

func arp() []byte { return append(make([]byte, 12), 0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1) }

// An arrival is a frame that has come out of a shaper.
type arrival struct {
	frame []byte
	at    time.Duration
}

func (a arrival) number() int {
	return int(binary.BigEndian.Uint32(a.frame[parse(a.frame).payload:]))
}

// A bench runs a shaper by a clock of its own.
type bench struct {
	*shaper
	now time.Duration
	out []arrival
}

func newBench(t *testing.T, seed uint64, i Impairment) *bench {
	t.Helper()
	if err := i.Validate(); err != nil {
		t.Fatal(err)
	}
	b := &bench{shaper: newShaper(seed, Up, etherSize+1500)}
	b.set(i)
	return b
}

// until goes to a time, stopping where the shaper has something to do.
func (b *bench) until(at time.Duration) {
	for {
		b.now = min(at, max(b.now, b.next()))
		for _, p := range b.due(nil, b.now) {
			b.out = append(b.out, arrival{slices.Clone(p.frame), b.now})
			b.give(p)
		}
		if b.now == at {
			return
		}
	}
}

func (b *bench) send(frames ...[]byte) {
	for _, f := range frames {
		p := b.take()
		p.frame = p.memory[:copy(p.memory, f)]
		b.admit(p, b.now)
	}
	b.until(b.now)
}

// stream sends n datagrams of 1,000 bytes, IPv4 and IPv6 in turn, and waits until all are through.
func (b *bench) stream(n int, gap time.Duration) []arrival {
	for i := range n {
		b.send(datagram(4+2*(i%2), 1000, i))
		b.until(b.now + gap)
	}
	b.until(b.now + time.Hour)
	return b.out
}

func numbers(out []arrival) []int {
	var all []int
	for _, a := range out {
		all = append(all, a.number())
	}
	return all
}

// about says whether a share of n is within five standard deviations of what it should be: of a million seeds, one or
// none would not be. Here the seed is always the same.
func about(got, n int, want float64) bool {
	return math.Abs(float64(got)/float64(n)-want) < 5*math.Sqrt(want*(1-want)/float64(n))
}

func TestPass(t *testing.T) {
	b := newBench(t, 7, Impairment{})
	for i, a := range b.stream(100, ms) {
		if a.number() != i || a.at != time.Duration(i)*ms || !slices.Equal(a.frame, datagram(4+2*(i%2), 1000, i)) {
			t.Fatalf("frame %d: %d at %v", i, a.number(), a.at)
		}
	}
}

func TestShares(t *testing.T) {
	const n = 20000
	for _, tt := range []struct {
		name  string
		i     Impairment
		count func(Stats) int
		left  func(*bench) int // the same by what came out
	}{
		{"loss", Impairment{Loss: 0.1}, func(s Stats) int { return s.Lost }, func(b *bench) int { return n - len(b.out) }},
		{"duplicate", Impairment{Duplicate: 0.1}, func(s Stats) int { return s.Duplicated }, func(b *bench) int { return len(b.out) - n }},
		{"corrupt", Impairment{Corrupt: 0.1}, func(s Stats) int { return s.Corrupted }, func(b *bench) int {
			bad := 0
			for i, a := range b.out {
				if !slices.Equal(a.frame, datagram(4+2*(i%2), 1000, i)) {
					bad++
				}
			}
			return bad
		}},
		{"reorder", Impairment{Reorder: 0.1}, func(s Stats) int { return s.Late }, func(b *bench) int {
			got, late, most := numbers(b.out), 0, -1
			for _, x := range got {
				if x < most {
					late++
				}
				most = max(most, x)
			}
			return late
		}},
	} {
		b := newBench(t, 7, tt.i)
		b.stream(n, ms/10)
		got, left := tt.count(b.stats), tt.left(b)
		// The last ones that are late have nobody left who could overtake them.
		if got-left > got/100 || left > got || !about(got, n, 0.1) {
			t.Errorf("%s: %d by the link's count, %d by what came out, of %d", tt.name, got, left, n)
		}
		again := newBench(t, 7, tt.i)
		if again.stream(n, ms/10); !reflect.DeepEqual(b.out, again.out) {
			t.Errorf("%s: the same seed does something else", tt.name)
		}
		other := newBench(t, 8, tt.i)
		if other.stream(n, ms/10); reflect.DeepEqual(b.out, other.out) {
			t.Errorf("%s: another seed does the same", tt.name)
		}
	}
}

// One impairment more does not change whom the others hit.
func TestChoicesAreIndependent(t *testing.T) {
	lossy := numbers(newBench(t, 7, Impairment{Loss: 0.1}).stream(1000, ms))
	b := newBench(t, 7, Impairment{Loss: 0.1, Duplicate: 0.3, Corrupt: 0, Delay: 5 * ms, Jitter: 2 * ms})
	if got := slices.Compact(numbers(b.stream(1000, ms))); !slices.Equal(got, lossy) {
		t.Errorf("%d packets, then %d", len(lossy), len(got))
	}
	if up, down := newShaper(7, Up, 1), newShaper(7, Down, 1); up.chance(0, byLoss) == down.chance(0, byLoss) {
		t.Error("both directions suffer the same")
	}
}

func TestFlipIsOneBitOfThePayload(t *testing.T) {
	for version := 4; version <= 6; version += 2 {
		hit := map[int]bool{}
		whole := datagram(version, 100, 1)
		for n := range uint64(2000) {
			f := slices.Clone(whole)
			flip(f, parse(f), mix(n))
			ones := 0
			for i, c := range f {
				if x := c ^ whole[i]; x != 0 {
					for ; x != 0; x &= x - 1 {
						ones++
					}
					hit[i] = true
				}
			}
			if ones != 1 {
				t.Fatalf("%d bits flipped", ones)
			}
		}
		h := parse(whole)
		for i := range whole {
			if hit[i] != (i >= h.payload) {
				t.Errorf("IPv%d: byte %d flipped: %t, the payload begins at %d", version, i, hit[i], h.payload)
			}
		}
	}
}

func TestBurst(t *testing.T) {
	const n, begin, length = 100000, 0.005, 8.0
	b := newBench(t, 7, Impairment{Burst: begin, BurstLength: length})
	b.stream(n, ms/100)
	got, runs, next := len(b.out), 0, 0
	for _, x := range numbers(b.out) {
		if x > next {
			runs++
		}
		next = x + 1
	}
	lost := n - got
	// Lengths are geometric: their standard deviation is about their mean.
	if mean := float64(lost) / float64(runs); math.Abs(mean-length) > 5*length/math.Sqrt(float64(runs)) {
		t.Errorf("bursts of %.2f in the mean, of %d, want %v", mean, runs, length)
	}
	if !about(runs, got, begin) {
		t.Errorf("%d bursts begin after %d good packets", runs, got)
	}
	if b.stats.BurstLost != lost {
		t.Errorf("%d lost, %d counted", lost, b.stats.BurstLost)
	}
}

func TestDelayAndJitter(t *testing.T) {
	const n = 20000
	for _, unordered := range []bool{false, true} {
		b := newBench(t, 7, Impairment{Delay: 40 * ms, Jitter: 10 * ms, Unordered: unordered})
		gap := ms
		out := b.stream(n, gap)
		var sum time.Duration
		for _, a := range out {
			d := a.at - time.Duration(a.number())*gap
			if d < 40*ms || d >= 50*ms {
				t.Fatalf("a delay of %v", d)
			}
			sum += d
		}
		if inOrder := slices.IsSorted(numbers(out)); inOrder == unordered {
			t.Errorf("unordered %t: in order %t", unordered, inOrder)
		}
		if mean := sum / n; unordered && (mean-45*ms).Abs() > ms/10 {
			t.Errorf("mean delay %v", mean)
		}
	}
}

// Packets that are further apart than the jitter need not wait for each other: their delays are evenly spread.
func TestJitterIsEven(t *testing.T) {
	const n = 20000
	var bins [10]int
	for i, a := range newBench(t, 7, Impairment{Delay: 40 * ms, Jitter: 10 * ms}).stream(n, 10*ms) {
		bins[(a.at-time.Duration(i)*10*ms-40*ms)/ms]++
	}
	for i, got := range bins {
		if !about(got, n, 0.1) {
			t.Errorf("%d of %d delays between %d and %d ms", got, n, 40+i, 41+i)
		}
	}
}

func TestRate(t *testing.T) {
	frame := etherSize + 1000
	for _, i := range []Impairment{{Rate: 1e6}, {Rate: 1e6, QueueTime: 20 * ms}, {Rate: 1e6, QueueBytes: 3 * frame}} {
		b := newBench(t, 7, i)
		const n = 10000
		out := b.stream(n, ms/2) // twice what passes
		rate := float64(len(out)*frame) / out[len(out)-1].at.Seconds()
		if math.Abs(rate-1e6) > 1e6/1000 {
			t.Errorf("%v: %.0f bytes a second", i, rate)
		}
		limit := i.QueueTime
		if i.QueueBytes == 0 && limit == 0 {
			limit = defaultQueue
		}
		if i.QueueBytes > 0 {
			limit = time.Duration(i.QueueBytes) * time.Microsecond
		}
		var most time.Duration
		for _, a := range out {
			most = max(most, a.at-time.Duration(a.number())*ms/2)
		}
		if most > limit+2*ms || most < limit-2*ms {
			t.Errorf("%v: the longest wait was %v", i, most)
		}
		if b.stats.QueueFull != n-len(out) || !slices.IsSorted(numbers(out)) {
			t.Errorf("%v: %d are missing, %d dropped", i, n-len(out), b.stats.QueueFull)
		}
	}
}

// What waits for a slow rate does not wait for it any more when it has gone.
func TestRateChange(t *testing.T) {
	b := newBench(t, 7, Impairment{Rate: 1000, QueueBytes: 1e6})
	for i := range 10 {
		b.send(datagram(4, 1000, i))
	}
	b.until(1500 * ms)
	if len(b.out) != 1 {
		t.Fatalf("%d through in 1.5 seconds", len(b.out))
	}
	b.set(Impairment{})
	b.send(datagram(4, 1000, 10))
	if got := numbers(b.out); !slices.IsSorted(got) || len(got) != 11 || b.now != 1500*ms {
		t.Errorf("%v at %v", got, b.now)
	}
}

func TestMTU(t *testing.T) {
	for version := 4; version <= 6; version += 2 {
		for _, answer := range []bool{false, true} {
			b := newBench(t, 7, Impairment{MTU: 1300, TooBig: answer})
			b.send(datagram(version, 1300, 0), datagram(version, 1301, 1), datagram(version, 1299, 2))
			if got := numbers(b.out); !slices.Equal(got, []int{0, 2}) {
				t.Errorf("IPv%d: %v pass", version, got)
			}
			if (len(b.answers) == 1) != answer {
				t.Fatalf("IPv%d: %d answers", version, len(b.answers))
			}
			if !answer {
				continue
			}
			a := b.answers[0]
			h, sent := parse(a), datagram(version, 1301, 1)
			if a[0] != 4 || a[6] != 2 || h.spared || !slices.Contains([]uint8{protoICMP, protoICMPv6}, h.protocol) || !h.reportsError(a) {
				t.Errorf("IPv%d: the answer is % x", version, a)
			}
			quote := a[h.body+8 : h.end]
			if !slices.Equal(quote, sent[etherSize:etherSize+len(quote)]) || binary.BigEndian.Uint16(a[h.body+6:]) != 1300 {
				t.Errorf("IPv%d: the answer says % x", version, a[h.body:])
			}
			if got := tooBig(a, h, 100); got != nil {
				t.Errorf("IPv%d: an error was answered", version)
			}
		}
	}
}

func TestHole(t *testing.T) {
	tcp := func(version, number int) []byte {
		f := datagram(version, 1000, number)
		at := map[int]int{4: etherSize + 9, 6: etherSize + 6}[version]
		f[at] = protoTCP
		f[parse(f).body+12] = 5 << 4
		return f
	}
	for hole, want := range map[Hole]int{"": 5, UDP: 3, TCP: 3, All: 1} {
		b := newBench(t, 7, Impairment{Hole: hole})
		b.send(datagram(4, 1000, 0), datagram(6, 1000, 1), tcp(4, 2), tcp(6, 3), arp())
		if len(b.out) != want || b.stats.Holed != 5-want {
			t.Errorf("hole=%s: %d of 5 pass, %+v", hole, len(b.out), b.stats)
		}
	}
}

// What IP needs to find its neighbours suffers nothing but the delay, and does not shift the numbers of the others.
func TestSpared(t *testing.T) {
	solicitation := datagram(6, 100, 0)
	solicitation[etherSize+6] = protoICMPv6
	solicitation[etherSize+40] = 135
	report := slices.Concat(datagram(6, 100, 0)[:etherSize+40], []byte{protoICMPv6, 0, 5, 2, 0, 0, 1, 0, 143}, make([]byte, 51))
	report[etherSize+6] = 0 // a hop-by-hop header
	igmp := datagram(4, 100, 0)
	igmp[etherSize+9] = protoIGMP
	all := [][]byte{arp(), solicitation, report, igmp, {1, 2, 3}, datagram(4, 100, 0)[:30]}
	b := newBench(t, 7, Impairment{Delay: 5 * ms, Jitter: ms, Loss: 1, MTU: 1, Rate: 1, Hole: All, Corrupt: 1, Duplicate: 1})
	b.send(all...)
	b.until(5 * ms)
	if len(b.out) != len(all) || b.number != 0 || b.out[0].at != 5*ms {
		t.Fatalf("%d of %d pass, number %d", len(b.out), len(all), b.number)
	}
	for i, f := range all {
		if !slices.Equal(b.out[i].frame, f) {
			t.Errorf("frame %d came out as % x", i, b.out[i].frame)
		}
	}
}

// Later fragments have a protocol and no header of it.
func TestFragments(t *testing.T) {
	four := datagram(4, 100, 0)
	four[etherSize+7] = 10
	six := datagram(6, 108, 0)
	six[etherSize+6] = 44
	copy(six[etherSize+40:], []byte{protoUDP, 0, 0, 80, 0, 0, 0, 1})
	for _, f := range [][]byte{four, six} {
		if h := parse(f); !h.later || !UDP.swallows(h) || h.payload != h.body || tooBig(f, h, 50) != nil {
			t.Errorf("% x: %+v", f, h)
		}
	}
}

func TestCrowded(t *testing.T) {
	b := newBench(t, 7, Impairment{Delay: time.Hour})
	b.size = maxHeld / 4
	for i := range 6 {
		p := &packet{frame: datagram(4, 1000, i)}
		b.admit(p, 0)
	}
	if b.stats.Crowded != 2 {
		t.Errorf("%+v", b.stats)
	}
}

func TestParse(t *testing.T) {
	const script = "delay=40ms jitter=10ms unordered rate=1.25M queue=64k,5s up loss=1% burst=0.1%:20 reorder=2% late=5ms, " +
		"1s-3s down duplicate=1% corrupt=0.001 mtu=1300 too-big queue=50ms hole=udp,pass"
	got, err := Parse(script, 7)
	if err != nil {
		t.Fatal(err)
	}
	want := []Step{
		{0, Both, Impairment{Delay: 40 * ms, Jitter: 10 * ms, Unordered: true, Rate: 1250000, QueueBytes: 64000}},
		{5 * time.Second, Up, Impairment{Loss: 0.01, Burst: 0.001, BurstLength: 20, Reorder: 0.02, Late: 5 * ms}},
		{got[2].Wait, Down, Impairment{Duplicate: 0.01, Corrupt: 0.001, MTU: 1300, TooBig: true, QueueTime: 50 * ms, Hole: UDP}},
		{0, Both, Impairment{}},
	}
	if !reflect.DeepEqual(got, want) || got[2].Wait < time.Second || got[2].Wait > 3*time.Second {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, s := range want {
		again, err := Parse(s.Impairment.String(), 1)
		if err != nil || again[0].Impairment != s.Impairment {
			t.Errorf("%v reads as %v, %v", s.Impairment, again, err)
		}
	}
	for _, bad := range []string{"", "5s", "up", "explode", "5 pass", "loss=2", "loss=-1%", "loss=NaN", "loss", "burst=1%", "burst=1%:0.5",
		"delay=5", "delay=-5ms", "rate=0", "rate=fast", "hole=sctp", "hole", "mtu=x", "pass=1", "up down pass", "3s-1s pass", "queue=x", "late=-1s"} {
		if _, err := Parse(bad, 7); err == nil {
			t.Errorf("%q is a script", bad)
		} else {
			t.Logf("%q: %v", bad, err)
		}
	}
}

func TestWordsHasThemAll(t *testing.T) {
	for word := range strings.FieldsSeq("up down pass delay jitter unordered rate queue loss burst reorder late duplicate corrupt mtu too-big hole") {
		if !strings.Contains(Words, "  "+word) && !strings.Contains(Words, ", "+word) {
			t.Errorf("%s is not in the help", word)
		}
	}
}
