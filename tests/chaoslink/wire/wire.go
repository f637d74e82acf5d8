// Package wire is a cable between two NICs that spoils the packets which pass it, each direction on its own, to a script
// and from a seed.
//
//	link, err := wire.Open("left", "right", wire.Options{Seed: 7})
//	defer link.Close()
//	link.Set(wire.Both, wire.Impairment{Delay: 40 * time.Millisecond, Loss: 0.01})
//	link.Set(wire.Up, wire.Impairment{Rate: 1e6, Hole: wire.UDP})
//	steps, err := wire.Parse("5s up hole=udp, 10s-20s pass", 7)
//	link.Run(ctx, steps)
//
// Up leads from the first NIC to the second, Down back. The link needs Linux and CAP_NET_RAW; both NICs are in the
// namespace of the caller of Open, which has no other use for them: what comes in by one leaves by the other.
//
// # The way of a packet
//
//	hole → loss → burst → MTU → corrupt → duplicate → queue and rate → delay, jitter, reorder → out
//
// A number of the packet in its direction and the seed decide each of these by themselves, so that the same packets
// suffer the same again, and one impairment more does not move the others. What depends on the clock is not decided: who
// finds the queue full, and which packet is the first after a step of a script.
//
// ARP, neighbour discovery and the group reports of both IP versions have no number: they take the delay, without jitter,
// and suffer nothing else. So does a frame that is not IP; one with a VLAN tag counts as such.
//
// # One frame is one packet
//
// NICs that join segments or leave checksums to each other would show the link what no cable carries. Plain turns that
// off; it is needed at both ends of each veth pair concerned. A frame that is larger than its NIC's MTU all the same is
// dropped and counted as Stats.Giant.
//
// # What the link itself does
//
// Measured without an impairment on two virtual CPUs at 2.1 GHz, which sender, link and receiver share, as root, by
//
//	go test ./tests/lab -run '^$' -bench Wire
//
//	                    through a link         the same cable without one
//	UDP, 64 bytes       140k-470k packets/s    760k-970k packets/s
//	UDP, 1,514 bytes    1.7-5.4 Gbit/s         10.7-11.9 Gbit/s
//	TCP, IPv4           3.3-4.4 Gbit/s         24-27 Gbit/s, by segments of 64 KiB
//	delay of 0          20 µs, 99 %: 0.2 ms    2 µs, 99 %: 6 µs
//	delay of 5 ms       28 µs more, 99 %: 0.2 ms more
//
// The lower numbers are those of a machine that others keep busy. A link that cannot keep up says so in Stats.Missed. It
// never sends before the time; a process that computes much delays its own link, of which the command chaoslink has a
// process to itself.
package wire

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// A Direction is one way through a link, or both.
type Direction int

const (
	Up   Direction = iota // from the first NIC to the second
	Down                  // from the second to the first
	Both
)

func (d Direction) String() string { return [...]string{"up", "down", "both"}[d] }

// ways are the single directions that d means.
func (d Direction) ways() []Direction {
	if d == Both {
		return []Direction{Up, Down}
	}
	return []Direction{d}
}

// A Hole is what vanishes altogether.
type Hole string

const (
	UDP Hole = "udp"
	TCP Hole = "tcp"
	All Hole = "all"
)

// An Impairment is what happens to the packets of one direction; those of the zero value pass. A share is a number from
// 0 to 1.
type Impairment struct {
	Delay     time.Duration // of every packet
	Jitter    time.Duration // up to so much more, evenly spread; who would overtake another waits for it
	Unordered bool          // they do not wait: jitter reorders

	Rate       int           // bytes of frames a second; 0: no limit
	QueueBytes int           // how much may wait for the rate; what comes on top is dropped
	QueueTime  time.Duration // the same as the time for which the last one waits; default, without either: 100 ms

	Loss        float64 // share of packets
	Burst       float64 // share of packets in good times with which bad times begin, in which everything is lost
	BurstLength float64 // mean length of bad times in packets; lengths are geometric, as Gilbert and Elliott have it

	Reorder float64       // share of packets that are late, so that others overtake them
	Late    time.Duration // by so much; default 10 ms

	Duplicate float64 // share of packets that are followed by a copy
	Corrupt   float64 // share of packets of which one bit is flipped, behind the TCP or UDP header if something is there

	MTU    int  // larger IP packets are dropped; 0: none
	TooBig bool // and answered at once by ICMP, in the name of the packet's destination; IPv6 heeds no less than 1280

	Hole Hole // drops all UDP, all TCP or all IP
}

const (
	defaultQueue = 100 * time.Millisecond
	defaultLate  = 10 * time.Millisecond
)

func (i Impairment) withDefaults() Impairment {
	if i.QueueBytes == 0 {
		i.QueueTime = cmp.Or(i.QueueTime, defaultQueue)
	}
	i.Late = cmp.Or(i.Late, defaultLate)
	return i
}

// Validate reports every fault together.
func (i Impairment) Validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"delay", i.Delay}, {"jitter", i.Jitter}, {"queue", i.QueueTime}, {"late", i.Late}} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s=%v is less than nothing", d.name, d.value))
		}
	}
	for _, s := range []struct {
		name  string
		value float64
	}{{"loss", i.Loss}, {"burst", i.Burst}, {"reorder", i.Reorder}, {"duplicate", i.Duplicate}, {"corrupt", i.Corrupt}} {
		if !(s.value >= 0 && s.value <= 1) { // NaN is neither
			errs = append(errs, fmt.Errorf("%s=%v is not from 0 to 1", s.name, s.value))
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"rate", i.Rate}, {"queue", i.QueueBytes}, {"mtu", i.MTU}} {
		if n.value < 0 {
			errs = append(errs, fmt.Errorf("%s=%d is less than nothing", n.name, n.value))
		}
	}
	if i.Burst > 0 && !(i.BurstLength >= 1) {
		errs = append(errs, fmt.Errorf("bursts of %v packets: the mean is at least 1", i.BurstLength))
	}
	switch i.Hole {
	case "", UDP, TCP, All:
	default:
		errs = append(errs, fmt.Errorf("hole=%s: %s, %s or %s", i.Hole, UDP, TCP, All))
	}
	return errors.Join(errs...)
}

// Stats count the frames of one direction. All that Received and Duplicated count is counted once more in the rest, or
// still on its way.
type Stats struct {
	Received   int // from the NIC
	Duplicated int // copies
	Sent       int

	Holed     int
	Lost      int // by Loss
	BurstLost int // by Burst
	TooBig    int // for MTU
	QueueFull int
	Crowded   int // more were on their way than the link keeps
	Giant     int // larger than the NIC's MTU: some NIC joins packets, see Plain
	Refused   int // by the other NIC

	Corrupted int
	Late      int // by Reorder
	Missed    int // dropped by the kernel before the link has received them: the link was too slow
}

func (s Stats) plus(o Stats) Stats {
	return Stats{
		Received:   s.Received + o.Received,
		Duplicated: s.Duplicated + o.Duplicated,
		Sent:       s.Sent + o.Sent,
		Holed:      s.Holed + o.Holed,
		Lost:       s.Lost + o.Lost,
		BurstLost:  s.BurstLost + o.BurstLost,
		TooBig:     s.TooBig + o.TooBig,
		QueueFull:  s.QueueFull + o.QueueFull,
		Crowded:    s.Crowded + o.Crowded,
		Giant:      s.Giant + o.Giant,
		Refused:    s.Refused + o.Refused,
		Corrupted:  s.Corrupted + o.Corrupted,
		Late:       s.Late + o.Late,
		Missed:     s.Missed + o.Missed,
	}
}
