package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/tests/chaoslink/wire"
)

const (
	ms = time.Millisecond

	coursePort    = 9
	coursePayload = 100 // a datagram's: short enough for a capture to keep all of it
	courseSettle  = 300 * ms
)

// A course is a link between the client and the router, with a capture on each side of it and numbered datagrams that
// go through.
type course struct {
	*Lab
	link  *wire.Link
	t     *testing.T
	conns [2][2]net.Conn // by direction and IP version
	size  int            // of a datagram's payload
}

// The ends of the course: the first sends up.
var (
	courseAddrs = [2][2]netip.Addr{{ClientAddr4, ClientAddr6}, {netip.MustParseAddr("10.77.1.1"), netip.MustParseAddr("fd77:1::1")}}
	courseNICs  = [2]string{"eth0", "client0"}
)

func newCourse(t *testing.T, seed uint64) *course {
	t.Helper()
	c := &course{Lab: New(t), t: t, size: coursePayload}
	// The kernel stamps frames when they pass only a while after the first has asked for it, and until then when they are
	// read: so one asks all the time.
	c.Capture(c.Client, "lo")
	c.link = c.Wire(c.Router, "client0", seed)
	for d := range 2 {
		for v := range 2 {
			// The first datagrams would wait until the neighbour is found, and others overtake them.
			c.end(d).ip(fmt.Sprintf("neigh replace %v lladdr %v dev %s", courseAddrs[1-d][v], c.end(1-d).NIC(courseNICs[1-d]).HardwareAddr, courseNICs[d]))
			sink, err := c.end(1-d).ListenPacket("udp", netip.AddrPortFrom(courseAddrs[1-d][v], coursePort).String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { sink.Close() })
			if c.conns[d][v], err = c.end(d).DialContext(t.Context(), "udp", sink.LocalAddr().String()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.conns[d][v].Close() })
		}
	}
	t.Cleanup(func() {
		if s := c.link.Stats(wire.Both); s.Missed+s.Giant+s.Refused > 0 {
			t.Errorf("the link was not up to it: %+v", s)
		}
	})
	return c
}

func (c *course) end(i int) *Namespace { return [2]*Namespace{c.Client, c.Router}[i] }

func (c *course) set(d wire.Direction, i wire.Impairment) {
	c.t.Helper()
	if err := c.link.Set(d, i); err != nil {
		c.t.Fatal(err)
	}
}

// A sighting is a datagram that a capture has seen.
type sighting struct {
	number int
	at     time.Time
	intact bool
	length int // of the frame
}

// send sends one numbered datagram; every other one is IPv6.
func (c *course) send(d wire.Direction, number int) {
	c.t.Helper()
	if _, err := c.conns[d][number%2].Write(numbered(number, c.size)); err != nil {
		c.t.Fatal(err)
	}
}

// numbered says its number again and again, so that a flipped bit does not hide it.
func numbered(number, size int) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint32(nil, uint32(number)), size/4)
}

// stream sends n datagrams, so many a second, and returns what a capture saw of them on each side.
func (c *course) stream(d wire.Direction, n int, perSecond float64) (sent, got []sighting) {
	c.t.Helper()
	near, far := c.Capture(c.end(int(d)), courseNICs[d]), c.Capture(c.end(1-int(d)), courseNICs[1-d])
	c.pace(d, n, perSecond)
	time.Sleep(courseSettle)
	return c.sightings(near.Stop()), c.sightings(far.Stop())
}

// pace makes up for the time for which the machine did something else.
func (c *course) pace(d wire.Direction, n int, perSecond float64) {
	c.t.Helper()
	for begin, i := time.Now(), 0; i < n; {
		for due := int(time.Since(begin).Seconds() * perSecond); i < min(n, due+1); i++ {
			c.send(d, i)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

func (c *course) sightings(packets []Packet) []sighting {
	var all []sighting
	for _, p := range packets {
		if p.Protocol != ProtocolUDP || p.To.Port() != coursePort {
			continue
		}
		b := p.head[14+20+8:]
		if p.EtherType == EtherTypeIPv6 {
			b = p.head[14+40+8:]
		}
		b = b[:min(len(b), coursePayload)]
		number := binary.BigEndian.Uint32(b)
		if other := binary.BigEndian.Uint32(b[4:]); other != number { // the third has the vote
			number = binary.BigEndian.Uint32(b[8:])
		}
		all = append(all, sighting{int(number), p.Time, bytes.Equal(b, numbered(int(number), coursePayload)), p.Length})
	}
	return all
}

// missing are the numbers that did not arrive, in order.
func missing(sent, got []sighting) []int {
	there := map[int]bool{}
	for _, s := range got {
		there[s.number] = true
	}
	var all []int
	for _, s := range sent {
		if !there[s.number] {
			all = append(all, s.number)
		}
	}
	return all
}

// delays are how long the datagrams took, sorted, and each by its number.
func delays(sent, got []sighting) (sorted []time.Duration, by map[int]time.Duration) {
	by = map[int]time.Duration{}
	for _, s := range got {
		by[s.number] = time.Duration(s.at.UnixNano())
	}
	for _, s := range sent {
		if at, ok := by[s.number]; ok {
			by[s.number] = at - time.Duration(s.at.UnixNano())
			sorted = append(sorted, by[s.number])
		}
	}
	slices.Sort(sorted)
	return sorted, by
}

// late are the numbers that arrived after a higher one.
func late(got []sighting) []int {
	var all []int
	most := -1
	for _, s := range got {
		if s.number < most {
			all = append(all, s.number)
		}
		most = max(most, s.number)
	}
	return all
}

// about says whether a share of n is within five standard deviations of what it should be. The seed makes it the same
// in each run.
func about(got, n int, want float64) bool {
	return math.Abs(float64(got)/float64(n)-want) < 5*math.Sqrt(want*(1-want)/float64(n))
}

// A link that is told nothing is a cable, wherever it is laid.
func TestWirePasses(t *testing.T) {
	c := newCourse(t, 1)
	others := []*wire.Link{c.Wire(c.Appliance, "eth0", 1), c.Wire(c.VNet.Namespace, "eth0", 1)}
	for _, d := range []wire.Direction{wire.Up, wire.Down} {
		sent, got := c.stream(d, 4000, 20000)
		if len(sent) != 4000 || len(got) != 4000 || len(late(got)) > 0 ||
			slices.ContainsFunc(got, func(s sighting) bool { return !s.intact || s.length != sent[s.number].length }) {
			t.Errorf("%v: %d of %d, late %v", d, len(got), len(sent), late(got))
		}
	}
	c.Appliance.AddAddress("vnet0", netip.MustParsePrefix("10.99.0.1/16"))
	echo(t, c.Appliance, ":443")
	echo(t, c.VNet.Namespace, ":22")
	for _, a := range []netip.Addr{ApplianceAddr4, ApplianceAddr6} {
		if err := ask(t, c.Client, netip.AddrPortFrom(a, 443).String()); err != nil {
			t.Error(err)
		}
	}
	if err := ask(t, c.Appliance, netip.AddrPortFrom(TargetAddr4, 22).String()); err != nil {
		t.Error(err)
	}
	for _, l := range others {
		waitFor(t, 5*time.Second, "all that has come in, and something has, to go out", func(context.Context) bool {
			s := l.Stats(wire.Both)
			return s.Sent > 0 && s.Sent == s.Received
		})
	}
}

// Shares are what a capture sees, the same with the same seed; the other direction goes its own way.
func TestWireShares(t *testing.T) {
	const n, share = 4000, 0.05
	for _, tt := range []struct {
		name  string
		d     wire.Direction
		i     wire.Impairment
		whom  func(sent, got []sighting) []int
		least float64 // of the share, is certain
	}{
		{"loss", wire.Up, wire.Impairment{Loss: share}, missing, 1},
		{"loss", wire.Down, wire.Impairment{Loss: share}, missing, 1},
		{"duplicate", wire.Down, wire.Impairment{Duplicate: share}, func(_, got []sighting) []int {
			var twice []int
			for i, s := range got[1:] {
				if s.number == got[i].number {
					twice = append(twice, s.number)
				}
			}
			return twice
		}, 1},
		{"corrupt", wire.Up, wire.Impairment{Corrupt: share}, func(_, got []sighting) []int {
			var bad []int
			for _, s := range got {
				if !s.intact {
					bad = append(bad, s.number)
				}
			}
			return bad
		}, 1},
	} {
		t.Run(fmt.Sprintf("%s %v", tt.name, tt.d), func(t *testing.T) {
			var hit [2][]int
			for run := range hit {
				c := newCourse(t, 7)
				c.set(1-tt.d, wire.Impairment{Hole: wire.All})
				c.set(tt.d, tt.i)
				sent, got := c.stream(tt.d, n, 20000)
				if len(sent) != n || len(late(got)) > 0 {
					t.Errorf("%d sent, late %v", len(sent), late(got))
				}
				hit[run] = tt.whom(sent, got)
				s := c.link.Stats(tt.d)
				if s.Lost+s.Duplicated+s.Corrupted != len(hit[run]) || len(got) != n-s.Lost+s.Duplicated {
					t.Errorf("%d hit and %d received, by the link's count: %+v", len(hit[run]), len(got), s)
				}
			}
			if !about(len(hit[0]), n, share) || !slices.Equal(hit[0], hit[1]) {
				t.Errorf("%d of %d hit, then %d", len(hit[0]), n, len(hit[1]))
			}
		})
	}
}

func TestWireBursts(t *testing.T) {
	const n, begin, length = 10000, 0.01, 5.0
	c := newCourse(t, 7)
	c.set(wire.Up, wire.Impairment{Burst: begin, BurstLength: length})
	sent, got := c.stream(wire.Up, n, 20000)
	lost, runs := missing(sent, got), 0
	for i, x := range lost {
		if i == 0 || lost[i-1] != x-1 {
			runs++
		}
	}
	mean := float64(len(lost)) / float64(runs)
	t.Logf("%d bursts of %.2f in the mean", runs, mean)
	// Lengths are geometric: their standard deviation is about their mean.
	if math.Abs(mean-length) > 5*length/math.Sqrt(float64(runs)) || !about(runs, len(got), begin) {
		t.Errorf("%d bursts of %.2f in the mean among %d packets", runs, mean, n)
	}
}

func TestWireDelays(t *testing.T) {
	const n, delay, jitter = 1000, 30 * ms, 10 * ms
	c := newCourse(t, 7)
	for _, unordered := range []bool{false, true} {
		c.set(wire.Up, wire.Impairment{Delay: delay, Jitter: jitter, Unordered: unordered})
		sent, got := c.stream(wire.Up, n, 1000)
		if len(got) != n || (len(late(got)) > 0) != unordered {
			t.Fatalf("unordered %t: %d arrived, %d late", unordered, len(got), len(late(got)))
		}
		all, _ := delays(sent, got)
		at := func(percent int) time.Duration { return all[n*percent/100] }
		t.Logf("unordered %t: %v %v %v %v %v", unordered, all[0], at(10), at(50), at(90), all[n-1])
		// A machine that is busy with something else delays some packets more: never the half.
		if at(1) < delay || at(80) > delay+jitter+3*ms {
			t.Errorf("unordered %t: delays of %v to %v", unordered, at(1), at(80))
		}
		if unordered && (at(25)-delay-jitter/4).Abs() > 2*ms || unordered && (at(50)-delay-jitter/2).Abs() > 2*ms {
			t.Errorf("delays are not even: a quarter is below %v, a half below %v", at(25), at(50))
		}
	}
	c.set(wire.Up, wire.Impairment{})
	if all, _ := delays(c.stream(wire.Up, n, 5000)); all[n/2] > 2*ms {
		t.Errorf("without a delay it is %v", all[n/2])
	}
}

func TestWireReorders(t *testing.T) {
	const n, share, by = 2000, 0.05, 50 * ms
	c := newCourse(t, 7)
	c.set(wire.Down, wire.Impairment{Reorder: share, Late: by})
	sent, got := c.stream(wire.Down, n, 2000)
	overtaken := late(got)
	_, took := delays(sent, got)
	for _, x := range overtaken {
		if took[x] < by-ms {
			t.Errorf("packet %d was overtaken after %v", x, took[x])
		}
	}
	// The last ones have nobody left who could overtake them.
	if s := c.link.Stats(wire.Down); len(got) != n || !about(s.Late, n, share) || s.Late < len(overtaken) || len(overtaken) < s.Late*8/10 {
		t.Errorf("%d of %d overtaken, of which %d arrived; %+v", len(overtaken), n, len(got), s)
	}
}

// The rate is within 5 % of what was asked for, and nobody waits for longer than the queue.
func TestWireRate(t *testing.T) {
	const rate, queue = 2e6, 200 * ms
	c := newCourse(t, 7)
	c.size = 1000
	c.set(wire.Up, wire.Impairment{Rate: rate, QueueTime: queue})
	sent, got := c.stream(wire.Up, 6000, 4000) // twice what passes
	all, took := delays(sent, got)
	total, span := 0, time.Duration(0)
	for i, s := range got[1:] {
		if took[s.number] > 5*ms { // it has waited for the one before, whatever the sender did meanwhile
			total += s.length
			span += s.at.Sub(got[i].at)
		}
	}
	passed := float64(total) / span.Seconds()
	s := c.link.Stats(wire.Up)
	t.Logf("UDP: %.0f bytes/s, the longest wait %v, %d dropped", passed, all[len(all)-1], s.QueueFull)
	if math.Abs(passed-rate) > rate*0.05 {
		t.Errorf("%.0f bytes a second, want %.0f", passed, float64(rate))
	}
	// The queue is full for most of the time, so half of them wait for as long as it is. What a busy machine does to the
	// link's own program comes on top for some.
	if half := all[len(all)/2]; half > queue+50*ms || half < queue-20*ms {
		t.Errorf("half of them wait for %v or more in the queue", half)
	}
	if s.QueueFull == 0 || s.QueueFull != len(missing(sent, got)) {
		t.Errorf("%d dropped, %d missing", s.QueueFull, len(missing(sent, got)))
	}
	for v, a := range courseAddrs[1] {
		in := c.Capture(c.Router, "client0")
		if _, err := c.bulk(a, 2<<20, 5*time.Second); err != nil {
			t.Error(err)
		}
		packets := slices.DeleteFunc(in.Stop(), func(p Packet) bool { return p.Out || p.Protocol != ProtocolTCP || p.Length < 1000 })
		total = 0
		for _, p := range packets[1:] {
			total += p.Length
		}
		passed := float64(total) / packets[len(packets)-1].Time.Sub(packets[0].Time).Seconds()
		t.Logf("TCP, %v: %.0f bytes/s", a, passed)
		if passed > rate*1.05 || passed < rate*0.8 { // TCP does not always fill a link
			t.Errorf("TCP over IPv%d: %.0f bytes a second", 4+2*v, passed)
		}
	}
}

// bulk sends n bytes by TCP from the client to the router and says how many of them arrive within the limit.
func (c *course) bulk(to netip.Addr, n int64, limit time.Duration) (int64, error) {
	c.t.Helper()
	s, err := c.Router.Listen("tcp", netip.AddrPortFrom(to, coursePort).String())
	if err != nil {
		c.t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(c.t.Context(), limit)
	defer cancel()
	up, err := c.Client.DialContext(ctx, "tcp", s.Addr().String())
	if err != nil {
		return 0, err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	down, err := s.Accept()
	if err != nil {
		up.Close()
		return 0, err
	}
	defer down.Close()
	deadline, _ := ctx.Deadline()
	up.SetDeadline(deadline)
	down.SetDeadline(deadline)
	wg.Go(func() {
		defer up.Close()
		io.CopyN(up, zeros{}, n)
	})
	return io.Copy(io.Discard, down)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestWireClampsTheMTU(t *testing.T) {
	const mtu = 1300
	c := newCourse(t, 7)
	c.set(wire.Both, wire.Impairment{MTU: mtu})
	for v, head := range []int{28, 48} { // IP and UDP
		in := c.Capture(c.Router, "client0")
		for _, size := range []int{mtu + 1, mtu, mtu + 100, 200} {
			if _, err := c.conns[wire.Up][v].Write(make([]byte, size-head)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(courseSettle)
		var got []int
		for _, s := range c.sightings(in.Stop()) {
			got = append(got, s.length-14)
		}
		if !slices.Equal(got, []int{mtu, 200}) {
			t.Errorf("packets of %v bytes pass", got)
		}
		if n, err := c.bulk(courseAddrs[1][v], 100<<10, time.Second); n != 0 || err == nil {
			t.Errorf("TCP hears nothing of the MTU and %d bytes pass, %v", n, err)
		}
	}
	c.set(wire.Both, wire.Impairment{MTU: mtu, TooBig: true})
	for _, a := range courseAddrs[1] {
		in := c.Capture(c.Router, "client0")
		if n, err := c.bulk(a, 1<<20, 10*time.Second); n != 1<<20 || err != nil {
			t.Errorf("TCP is told of the MTU and %d bytes pass, %v", n, err)
		}
		most := 0
		for _, p := range in.Stop() {
			if !p.Out {
				most = max(most, p.Length-14)
			}
		}
		if most != mtu {
			t.Errorf("the largest packet that passed had %d bytes", most)
		}
	}
}

// A hole takes what it is for, and leaves the rest alone; neighbours find each other in any case.
func TestWireHoles(t *testing.T) {
	c := newCourse(t, 7)
	echo(t, c.Router, ":443")
	for _, hole := range []wire.Hole{"", wire.UDP, wire.TCP, wire.All, ""} {
		c.set(wire.Both, wire.Impairment{Hole: hole})
		want := 100
		if hole == wire.UDP || hole == wire.All {
			want = 0
		}
		for _, d := range []wire.Direction{wire.Up, wire.Down} {
			if _, got := c.stream(d, 100, 10000); len(got) != want {
				t.Errorf("hole %q: %d datagrams pass %v, want %d", hole, len(got), d, want)
			}
		}
		for _, a := range courseAddrs[1] {
			err := ask(t, c.Client, netip.AddrPortFrom(a, 443).String())
			var ne net.Error
			if silent := errors.As(err, &ne) && ne.Timeout(); silent != (hole == wire.TCP || hole == wire.All) || !silent && err != nil {
				t.Errorf("hole %q: TCP to %v: %v", hole, a, err)
			}
		}
	}
	c.set(wire.Both, wire.Impairment{Hole: wire.All})
	c.Client.ip("neigh flush dev eth0 nud permanent")
	c.send(wire.Up, 0)
	c.send(wire.Up, 1)
	waitFor(t, 5*time.Second, "the router's MAC, twice", func(context.Context) bool {
		neighbours := c.Client.Run("ip", "neigh", "show", "dev", "eth0")
		mac := []byte(c.Router.NIC("client0").HardwareAddr.String())
		return bytes.Count([]byte(neighbours), mac) >= 2
	})
}

// A script runs by the clock: datagrams sent all along are missing where it said so.
func TestWireScript(t *testing.T) {
	c := newCourse(t, 7)
	steps, err := wire.Parse("200ms hole=udp, 300ms pass", 7)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := c.link.Run(t.Context(), steps); err != nil {
			t.Error(err)
		}
	})
	sent, got := c.stream(wire.Up, 700, 1000)
	wg.Wait()
	lost := missing(sent, got)
	if len(lost) == 0 || lost[len(lost)-1]-lost[0] != len(lost)-1 {
		t.Fatalf("lost were %v", lost)
	}
	from, to := sent[lost[0]].at.Sub(sent[0].at), sent[lost[len(lost)-1]].at.Sub(sent[0].at)
	if lost[0] == 0 || to-from < 200*ms || to-from > 500*ms {
		t.Errorf("it was dark from %v to %v", from, to)
	}
}

// The command does between two NICs what its script says, and counts it.
func TestWireCommand(t *testing.T) {
	l := New(t)
	bin := filepath.Join(l.Dir, "chaoslink")
	if out, err := exec.Command("go", "build", "-o", bin, "sallyport/tests/chaoslink").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	echo(t, l.Router, ":443")
	p := Start(t, l.cut(l.Router, "client0").Command(t.Context(), bin, "packet", "-first", "left", "-second", "right",
		"-script", "delay=50ms, 10ms up delay=150ms"))
	waitFor(t, 10*time.Second, "both steps", func(context.Context) bool { return strings.Contains(p.Output(), "up: delay=150ms") })
	begin := time.Now()
	if err := ask(t, l.Client, "10.77.1.1:443"); err != nil || time.Since(begin) < 400*ms { // two round trips
		t.Errorf("%v after %v", err, time.Since(begin))
	}
	p.Process.Signal(os.Interrupt)
	if err := p.Wait(); err != nil || !strings.Contains(p.Output(), "down: {Received:") {
		t.Errorf("%v\n%s", err, p.Output())
	}
}
