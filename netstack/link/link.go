// Package link holds the ways in which a stack is attached to a network: what carries its frames.
//
//	Packet       a NIC, by AF_PACKET sockets that the privileged parent opened
//	Tap          a TAP device, by its descriptor
//	WireGuard    a tunnel that ends in this process, by a UDP socket; IP packets, no Ethernet
//	Pipe         two ends in one process, for tests
//
// A link knows frames and nothing else. What may be sent is decided above it, by package netstack.
//
// # Who closes what
//
// A link belongs to the stack that it is attached to: netstack.Stack.Close closes it. Close ends the goroutines that
// read frames and gives the descriptor back; Wait returns when those goroutines have.
//
// # When a link ends by itself
//
// A NIC may be removed, a TAP deleted. Then Done is closed and Err says why; nothing brings such a link back, its owner
// opens another. While a NIC is merely set down Err is ErrDown, and Done stays open.
package link

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A Link carries the frames of one stack. LinkAddress is its MAC, MTU the largest IP packet that one frame carries,
// Close ends it.
type Link interface {
	stack.LinkEndpoint
	stack.GSOEndpoint

	// Stats says what has passed so far.
	Stats() Stats

	// Done is closed when the link has ended, by Close or by itself.
	Done() <-chan struct{}

	// Err is why the link carries nothing; nil while it does.
	Err() error
}

// Stats counts what passed a link since it was made.
type Stats struct {
	RxFrames, RxBytes uint64
	TxFrames, TxBytes uint64
	RxDropped         uint64 // not for this MAC, malformed, or with a wrong checksum
	TxDropped         uint64 // refused by the device, or written after Close
	RxMissed          uint64 // dropped by the kernel, since this process did not read them in time
}

// gsoMaxSize is the largest TCP packet that is handed down in one piece, to be cut by the kernel, the NIC or nobody.
// gVisor computes with 16-bit lengths, and headers come on top: 65436 is the value that was measured.
const gsoMaxSize = 65436

// defaultMTU is Ethernet's.
const defaultMTU = 1500

// ethernet is what all links share: an address, an MTU, the stack above, and the frame header.
type ethernet struct {
	life
	mac  atomic.Pointer[tcpip.LinkAddress]
	mtu  atomic.Uint32
	up   atomic.Pointer[stack.NetworkDispatcher]
	rx   counter
	tx   counter
	lost struct{ rx, tx atomic.Uint64 }
}

type counter struct{ frames, bytes atomic.Uint64 }

func (c *counter) add(bytes int) {
	c.frames.Add(1)
	c.bytes.Add(uint64(bytes))
}

func (e *ethernet) init(mac [6]byte, mtu uint32) {
	e.life = newLife()
	e.SetLinkAddress(tcpip.LinkAddress(mac[:]))
	e.mtu.Store(mtu)
}

func (e *ethernet) Stats() Stats {
	return Stats{
		RxFrames: e.rx.frames.Load(), RxBytes: e.rx.bytes.Load(), RxDropped: e.lost.rx.Load(),
		TxFrames: e.tx.frames.Load(), TxBytes: e.tx.bytes.Load(), TxDropped: e.lost.tx.Load(),
	}
}

func (e *ethernet) MTU() uint32                             { return e.mtu.Load() }
func (e *ethernet) SetMTU(mtu uint32)                       { e.mtu.Store(mtu) }
func (e *ethernet) LinkAddress() tcpip.LinkAddress          { return *e.mac.Load() }
func (e *ethernet) SetLinkAddress(mac tcpip.LinkAddress)    { e.mac.Store(&mac) }
func (e *ethernet) MaxHeaderLength() uint16                 { return header.EthernetMinimumSize }
func (e *ethernet) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }
func (e *ethernet) IsAttached() bool                        { return e.up.Load() != nil }
func (e *ethernet) SetOnCloseAction(func())                 {}

// GSOMaxSize and SupportedGSO say that TCP may hand down packets far larger than the MTU.
func (e *ethernet) GSOMaxSize() uint32               { return gsoMaxSize }
func (e *ethernet) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// Capabilities: neighbours are found by ARP and ND, and a received packet's checksum was checked below. Sent packets
// are checksummed by the stack: the offload flag would leave SYN, RST and UDP without any checksum, since only
// segments that are to be cut carry the request for one (see vnetHeader).
func (e *ethernet) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityResolutionRequired | stack.CapabilityRXChecksumOffload
}

func (e *ethernet) setDispatcher(d stack.NetworkDispatcher) {
	if d == nil {
		e.up.Store(nil)
		return
	}
	e.up.Store(&d)
}

// AddHeader puts the Ethernet header before an outgoing packet.
func (e *ethernet) AddHeader(pkt *stack.PacketBuffer) {
	eth := header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize))
	eth.Encode(&header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress,
		DstAddr: pkt.EgressRoute.RemoteLinkAddress,
		Type:    pkt.NetworkProtocolNumber,
	})
}

// ParseHeader takes the Ethernet header off an incoming packet.
func (e *ethernet) ParseHeader(pkt *stack.PacketBuffer) bool {
	b, ok := pkt.LinkHeader().Consume(header.EthernetMinimumSize)
	if ok {
		pkt.NetworkProtocolNumber = header.Ethernet(b).Type()
	}
	return ok
}

// receive hands one frame to the stack and lets go of it. Frames for another machine's MAC, which a NIC in
// promiscuous mode or a flooding switch delivers, are dropped.
func (e *ethernet) receive(pkt *stack.PacketBuffer) {
	defer pkt.DecRef()
	up := e.up.Load()
	size := pkt.Size()
	if up == nil || !e.ParseHeader(pkt) || !e.mine(header.Ethernet(pkt.LinkHeader().Slice()).DestinationAddress()) {
		e.lost.rx.Add(1)
		return
	}
	e.rx.add(size)
	(*up).DeliverNetworkPacket(pkt.NetworkProtocolNumber, pkt)
}

func (e *ethernet) mine(dst tcpip.LinkAddress) bool {
	const group = 1 // the first byte's low bit marks multicast and broadcast
	return dst[0]&group != 0 || dst == e.LinkAddress()
}
