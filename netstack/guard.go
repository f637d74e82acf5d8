package netstack

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"sallyport/netstack/link"
)

// A guard is the second check. It stands between the stack and its link and looks at every packet that leaves, after
// all decisions about dialling and routing have been made, perhaps wrongly. It lets pass
//
//	ARP and IPv6 neighbour discovery, without which there is no link
//	TCP and UDP to an address that the fence allows
//	TCP and UDP to the exact address, port and protocol on the system's list
//	TCP and UDP from a port that the configuration serves, unless to an address that is always denied
//	RST, ICMP errors and echo replies to allowed addresses, if unsolicited packets are to be answered
//
// and drops the rest. An answer to a stranger is counted as Muted: strangers decide how many there are. What else is
// dropped a flow has tried, past the fence; it is counted as Escaped and should always be zero.
type guard struct {
	link.Link
	fence  atomic.Pointer[Fence]
	serve  map[uint16]bool
	answer bool // unsolicited packets are answered

	mu      sync.Mutex
	allowed atomic.Pointer[map[Endpoint]int] // the union of all system handles' lists, with the number of holders

	escaped, muted atomic.Uint64
}

func newGuard(l link.Link, f Fence, serve []uint16, answer bool) *guard {
	g := &guard{Link: l, serve: map[uint16]bool{}, answer: answer}
	g.fence.Store(&f)
	for _, port := range serve {
		g.serve[port] = true
	}
	g.allowed.Store(&map[Endpoint]int{})
	return g
}

// allow replaces one handle's list by another.
func (g *guard) allow(was, is []Endpoint) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := map[Endpoint]int{}
	for e, n := range *g.allowed.Load() {
		next[e] = n
	}
	for _, e := range is {
		next[e]++
	}
	for _, e := range was {
		if next[e]--; next[e] == 0 {
			delete(next, e)
		}
	}
	g.allowed.Store(&next)
}

// WritePackets passes on what may leave. What may not is swallowed: the sender learns nothing from it.
func (g *guard) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	all := list.AsSlice()
	for i, pkt := range all {
		if g.passes(pkt) {
			continue
		}
		var rest stack.PacketBufferList
		for j, pkt := range all {
			if j < i || j > i && g.passes(pkt) {
				rest.PushBack(pkt)
			}
		}
		if rest.Len() > 0 {
			if n, err := g.Link.WritePackets(rest); err != nil {
				return n, err
			}
		}
		return len(all), nil
	}
	return g.Link.WritePackets(list)
}

func (g *guard) passes(pkt *stack.PacketBuffer) bool {
	switch pkt.NetworkProtocolNumber {
	case header.ARPProtocolNumber:
		return true
	case header.IPv4ProtocolNumber:
		ip := header.IPv4(pkt.NetworkHeader().Slice())
		if len(ip) < header.IPv4MinimumSize {
			break
		}
		return g.passesIP(pkt, tcpip.TransportProtocolNumber(ip.Protocol()), netip.AddrFrom4(ip.DestinationAddress().As4()))
	case header.IPv6ProtocolNumber:
		ip := header.IPv6(pkt.NetworkHeader().Slice())
		if len(ip) < header.IPv6MinimumSize {
			break
		}
		return g.passesIP(pkt, tcpip.TransportProtocolNumber(ip.NextHeader()), netip.AddrFrom16(ip.DestinationAddress().As16()))
	}
	g.escaped.Add(1)
	return false
}

func (g *guard) passesIP(pkt *stack.PacketBuffer, proto tcpip.TransportProtocolNumber, dst netip.Addr) bool {
	switch proto {
	case header.ICMPv6ProtocolNumber:
		if discovery(pkt) {
			return true
		}
		fallthrough
	case header.ICMPv4ProtocolNumber:
		if g.answer && g.fence.Load().Check(dst) == nil {
			return true
		}
		g.muted.Add(1)
		return false
	}
	err := g.fence.Load().Check(dst)
	if err == nil {
		return true
	}
	p := ports(pkt, proto)
	always := true
	if denied, ok := err.(*DeniedError); ok {
		always = denied.Always
	}
	switch {
	case (*g.allowed.Load())[Endpoint{netip.AddrPortFrom(dst, p.to), p.network}] > 0:
		return true
	case g.serve[p.from] && !always:
		return true
	case g.serve[p.from] || p.answer:
		g.muted.Add(1)
	default:
		g.escaped.Add(1)
	}
	return false
}

// discovery says whether an ICMPv6 packet finds or answers a neighbour. The stack keeps the ICMPv6 header of its
// questions in the packet's data, and that of its answers where headers belong.
func discovery(pkt *stack.PacketBuffer) bool {
	icmp := header.ICMPv6(pkt.TransportHeader().Slice())
	if len(icmp) == 0 {
		icmp, _ = pkt.Data().PullUp(header.ICMPv6MinimumSize)
	}
	if len(icmp) == 0 {
		return false
	}
	t := icmp.Type()
	return t == header.ICMPv6NeighborSolicit || t == header.ICMPv6NeighborAdvert
}

// A conversation is what a TCP or UDP packet says about itself.
type conversation struct {
	from, to uint16
	network  string // "tcp" or "udp"; empty for other packets and for the later parts of a fragmented one
	answer   bool   // it answers a stranger's packet: a RST, or a SYN that is also an ACK
}

func ports(pkt *stack.PacketBuffer, proto tcpip.TransportProtocolNumber) conversation {
	b := pkt.TransportHeader().Slice()
	switch {
	case proto == header.TCPProtocolNumber && len(b) >= header.TCPMinimumSize:
		h := header.TCP(b)
		answer := h.Flags().Contains(header.TCPFlagRst) || h.Flags().Contains(header.TCPFlagSyn|header.TCPFlagAck)
		return conversation{h.SourcePort(), h.DestinationPort(), "tcp", answer}
	case proto == header.UDPProtocolNumber && len(b) >= header.UDPMinimumSize:
		h := header.UDP(b)
		return conversation{h.SourcePort(), h.DestinationPort(), "udp", false}
	}
	return conversation{}
}
