package lab

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"
)

const (
	scanBatch  = 128                    // frames sent in one go: a fraction of a veth's backlog of 1000
	scanPause  = 500 * time.Microsecond // after a batch: 65,535 ports in about half a second
	scanPasses = 2                      // ports that have not answered are asked again, in case a frame was lost
	scanSettle = 300 * time.Millisecond // for the last answers
)

// A Scan asks ports with hand-made SYN frames that go to one MAC address, whatever the routes say: what a neighbour in
// the VNet could do.
type Scan struct {
	From  *Namespace // the scanning machine
	NIC   string     // its NIC, usually eth0
	MAC   net.HardwareAddr
	Addrs []netip.Addr
	Ports []uint16 // default: all 65,535

	// Pause is what follows each 128 frames; default half a millisecond, which real NICs keep up with. Passes is how often
	// ports that have not answered are asked; default 2.
	Pause  time.Duration
	Passes int

	// Source is the address that the frames carry; default: the NIC's own of the same family.
	Source netip.Addr

	// Watch are further NICs on which an answer counts: a machine that takes a packet on one NIC may well answer on
	// another, where its route to Source leads.
	Watch []Watch
}

// A Watch is one more place to look for answers.
type Watch struct {
	Namespace *Namespace
	NIC       string
}

// An Answer is what a port said to a SYN.
type Answer string

// The answers; a silent port has none.
const (
	Open   Answer = "open"   // SYN, ACK
	Closed Answer = "closed" // RST
)

// Scan sends a SYN to every port of every address and returns those that answered.
func (l *Lab) Scan(s Scan) map[netip.AddrPort]Answer {
	l.t.Helper()
	if s.Ports == nil {
		for port := range uint16(65535) {
			s.Ports = append(s.Ports, port+1)
		}
	}
	out := l.packetSocket(s.From, s.NIC)
	defer out.Close()
	watches := []*Capture{l.Capture(s.From, s.NIC)}
	for _, w := range s.Watch {
		watches = append(watches, l.Capture(w.Namespace, w.NIC))
	}
	answers := map[netip.AddrPort]Answer{}
	for _, addr := range s.Addrs {
		p := probe{
			dstMAC: s.MAC, srcMAC: s.From.NIC(s.NIC).HardwareAddr, addr: addr,
			source: netip.AddrPortFrom(s.source(addr), uint16(20000+rand.IntN(20000))), seq: rand.Uint32(),
		}
		for range cmp.Or(s.Passes, scanPasses) {
			if err := s.send(out, p, answers); err != nil {
				l.t.Fatalf("scan: %v", err)
			}
			time.Sleep(scanSettle)
			for _, w := range watches {
				maps.Copy(answers, p.answers(w.Packets()))
			}
		}
	}
	for _, w := range watches {
		w.Stop()
	}
	return answers
}

func (s *Scan) source(to netip.Addr) netip.Addr {
	if s.Source.IsValid() {
		return s.Source
	}
	addrs := s.From.Addrs(s.NIC)
	i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.Is4() == to.Is4() })
	if i < 0 {
		s.From.lab.t.Fatalf("scan: %s has no address to ask %v from", s.NIC, to)
	}
	return addrs[i]
}

// send asks every port that has not answered yet, no faster than receivers with small queues can take it.
func (s *Scan) send(out *os.File, p probe, answers map[netip.AddrPort]Answer) error {
	sent := 0
	for _, port := range s.Ports {
		if answers[netip.AddrPortFrom(p.addr, port)] != "" {
			continue
		}
		if _, err := out.Write(p.frame(port)); err != nil {
			return fmt.Errorf("send to %v port %d: %w", p.addr, port, err)
		}
		if sent++; sent%scanBatch == 0 {
			time.Sleep(cmp.Or(s.Pause, scanPause))
		}
	}
	return nil
}

// A probe is what the SYNs to one address have in common.
type probe struct {
	dstMAC, srcMAC net.HardwareAddr
	source         netip.AddrPort
	addr           netip.Addr
	seq            uint32
}

// answers picks the answers to this probe out of what passed.
func (p probe) answers(packets []Packet) map[netip.AddrPort]Answer {
	found := map[netip.AddrPort]Answer{}
	for _, q := range packets {
		if q.Protocol != ProtocolTCP || q.To != p.source || q.From.Addr() != p.addr || q.Ack != p.seq+1 {
			continue
		}
		switch {
		case q.Flags.Has(RST):
			found[q.From] = Closed
		case q.Flags.Has(SYN | ACK):
			found[q.From] = Open
		}
	}
	return found
}

// frame is a SYN to one port, as Ethernet carries it.
func (p probe) frame(port uint16) []byte {
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp[0:], p.source.Port())
	binary.BigEndian.PutUint16(tcp[2:], port)
	binary.BigEndian.PutUint32(tcp[4:], p.seq)
	tcp[12], tcp[13] = 5<<4, byte(SYN)
	binary.BigEndian.PutUint16(tcp[14:], 64240)
	from, to := p.source.Addr().AsSlice(), p.addr.AsSlice()
	sum := checksum(checksum(checksum(uint32(ProtocolTCP+len(tcp)), from), to), tcp)
	binary.BigEndian.PutUint16(tcp[16:], ^fold(sum))

	b := append(append([]byte{}, p.dstMAC...), p.srcMAC...)
	if p.addr.Is4() {
		head := []byte{0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, ProtocolTCP, 0, 0}
		head = append(append(head, from...), to...)
		binary.BigEndian.PutUint16(head[10:], ^fold(checksum(0, head)))
		b = append(binary.BigEndian.AppendUint16(b, EtherTypeIPv4), head...)
	} else {
		b = append(binary.BigEndian.AppendUint16(b, EtherTypeIPv6), 0x60, 0, 0, 0, 0, 20, ProtocolTCP, 64)
		b = append(append(b, from...), to...)
	}
	return append(b, tcp...)
}

// checksum adds an even number of bytes to an Internet checksum.
func checksum(sum uint32, b []byte) uint32 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
