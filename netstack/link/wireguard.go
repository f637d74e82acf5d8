package link

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	wg "golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/stack/gro"
)

// WireGuardOptions describes a tunnel.
type WireGuardOptions struct {
	PrivateKey [32]byte
	Peers      []WireGuardPeer
	MTU        int // of the packets inside; default 1420, which fits into 1500 under IPv6

	// Lookup finds the addresses of peers whose endpoint is a name; default net.DefaultResolver.
	Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// A WireGuardPeer is one that may be spoken to.
type WireGuardPeer struct {
	PublicKey    [32]byte
	PresharedKey [32]byte       // zero: none
	Endpoint     string         // host and port; empty: the peer calls first
	Allowed      []netip.Prefix // what may come from it and is sent to it
	Keepalive    time.Duration  // whole seconds; 0: none
}

const (
	wireGuardMTU = 1420

	// wireGuardBatch is how many packets one call moves, in and out. The library keeps that many buffers of 64 KiB
	// ready in each direction, so more would cost memory in every tunnel that is idle.
	wireGuardBatch = 32

	// tunnelQueue is how many packets of the stack wait to be encrypted. They are TCP packets of up to 64 KiB that share
	// the send buffers' memory; whoever sends more waits.
	tunnelQueue = 128

	// partingTime is for the last packets of a stack that is closed, its resets, to get out.
	partingTime = 100 * time.Millisecond

	// namesAgain is how often an endpoint that is a name is looked up while its peer has been silent for longer than a
	// session lasts: it may have moved. Until the name is found at first it is looked up more often.
	namesAgain, namesFirst = time.Minute, 5 * time.Second
)

// A tunnel is a WireGuard device whose network card is the stack: the library's tun.Device on one side and a link on the
// other.
//
// # Memory
//
// The library takes a buffer of 64 KiB for each packet, and on this platform its own cap on their number is a constant
// that says "none". So the cap is here: in each direction at most insideMax packets are let in that have not come out
// again, on the way in by the Bind and on the way out by Read. Packets that never come out (a peer without a session, a
// forged packet) are written off after a moment, so the cap is not exact: what the library keeps for a peer without a
// session, 128 batches, is its own affair, and comes on top.
//
// # Speed
//
// TCP hands down packets of up to 64 KiB, which are cut here, straight into the library's buffers; incoming segments are
// joined before the stack sees them.
type tunnel struct {
	life
	mtu    atomic.Uint32
	device *wg.Device
	bind   *bind
	names  []namedPeer
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

	out     chan *stack.PacketBuffer
	closing chan struct{} // no more packets of the stack
	closed  chan struct{} // no more packets at all
	events  chan tun.Event
	cut     *segments // what of a packet has not found room in the last batch; only Read touches it
	outside window    // read by the device and not yet sent
	inside  window    // received by the device and not yet written

	writing sync.Mutex // several peers' goroutines deliver
	gro     gro.GRO
	up      atomic.Pointer[stack.NetworkDispatcher]

	rx, tx      counter
	lost        struct{ rx, tx atomic.Uint64 }
	start, stop sync.Once
	wg          sync.WaitGroup
}

// WireGuard attaches to the peers of a tunnel by a UDP socket; it takes c over. A *net.UDPConn moves many datagrams a
// call, any other net.PacketConn one.
func WireGuard(c net.PacketConn, o WireGuardOptions) (Link, error) {
	o.MTU = cmp.Or(o.MTU, wireGuardMTU)
	if o.MTU < header.IPv6MinimumMTU || o.MTU > wg.MaxContentSize {
		c.Close()
		return nil, fmt.Errorf("link: an MTU of %d is not possible in a tunnel", o.MTU)
	}
	if o.Lookup == nil {
		o.Lookup = net.DefaultResolver.LookupNetIP
	}
	t := &tunnel{
		life: newLife(), lookup: o.Lookup, out: make(chan *stack.PacketBuffer, tunnelQueue),
		closing: make(chan struct{}), closed: make(chan struct{}), events: make(chan tun.Event),
		outside: newWindow(), inside: newWindow(),
	}
	t.mtu.Store(uint32(o.MTU))
	t.gro.Init(true)
	t.gro.Dispatcher = t
	t.bind = newBind(c, t)
	silent := &wg.Logger{Verbosef: wg.DiscardLogf, Errorf: wg.DiscardLogf}
	t.device = wg.NewDevice(card{t}, t.bind, silent)
	if err := t.device.IpcSet(t.configuration(o)); err != nil {
		t.device.Close()
		c.Close()
		return nil, fmt.Errorf("link: wireguard: %w", err)
	}
	return t, nil
}

// configuration is o in the library's words; peers whose endpoint is a name come without it.
func (t *tunnel) configuration(o WireGuardOptions) string {
	var b strings.Builder
	fmt.Fprintf(&b, "private_key=%x\n", o.PrivateKey)
	for _, p := range o.Peers {
		fmt.Fprintf(&b, "public_key=%x\n", p.PublicKey)
		if p.PresharedKey != [32]byte{} {
			fmt.Fprintf(&b, "preshared_key=%x\n", p.PresharedKey)
		}
		if at, err := netip.ParseAddrPort(p.Endpoint); err == nil {
			fmt.Fprintf(&b, "endpoint=%s\n", at)
		} else if p.Endpoint != "" {
			t.names = append(t.names, namedPeer{hex.EncodeToString(p.PublicKey[:]), p.Endpoint})
		}
		fmt.Fprintf(&b, "persistent_keepalive_interval=%d\n", int(p.Keepalive.Seconds()))
		for _, a := range p.Allowed {
			fmt.Fprintf(&b, "allowed_ip=%s\n", a)
		}
	}
	return b.String()
}

// Attach brings the tunnel up.
func (t *tunnel) Attach(up stack.NetworkDispatcher) {
	if up == nil {
		t.up.Store(nil)
		return
	}
	t.up.Store(&up)
	t.start.Do(func() {
		if err := t.device.Up(); err != nil {
			t.end(fmt.Errorf("wireguard: %w", err))
			return
		}
		for _, p := range t.names {
			t.wg.Go(func() { t.follow(p) })
		}
	})
}

// A namedPeer is one whose endpoint is to be looked up.
type namedPeer struct{ key, endpoint string }

// follow keeps a peer's endpoint where its name leads, unless it is heard from.
func (t *tunnel) follow(p namedPeer) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t.wg.Go(func() {
		select {
		case <-t.Done():
			cancel()
		case <-ctx.Done():
		}
	})
	wait, last := namesFirst, ""
	for {
		if last == "" || !t.heard(p) {
			if at, err := t.locate(ctx, p.endpoint); err == nil {
				wait = namesAgain
				if at != last && t.device.IpcSet("public_key="+p.key+"\nupdate_only=true\nendpoint="+at+"\n") == nil {
					last = at
				}
			}
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func (t *tunnel) locate(ctx context.Context, endpoint string) (string, error) {
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		return "", err
	}
	addrs, err := t.lookup(ctx, "ip", host)
	if err != nil {
		return "", err
	}
	if len(addrs) == 0 {
		return "", errors.New("no address")
	}
	return net.JoinHostPort(addrs[0].Unmap().String(), port), nil
}

// heard says whether a peer has shaken hands within the life of a session.
func (t *tunnel) heard(p namedPeer) bool {
	all, err := t.device.IpcGet()
	if err != nil {
		return false
	}
	_, mine, _ := strings.Cut(all, "public_key="+p.key+"\n")
	_, mine, _ = strings.Cut(mine, "last_handshake_time_sec=")
	line, _, _ := strings.Cut(mine, "\n")
	var at int64
	fmt.Sscan(line, &at)
	return time.Since(time.Unix(at, 0)) < wg.RejectAfterTime
}

// WritePackets queues packets for the device, and waits while the queue is full.
func (t *tunnel) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	for i, pkt := range list.AsSlice() {
		own := pkt.Clone()
		select {
		case <-t.closing:
			own.DecRef()
			t.lost.tx.Add(1)
			return i, &tcpip.ErrClosedForSend{}
		default:
		}
		select {
		case t.out <- own:
		case <-t.closing:
			own.DecRef()
			t.lost.tx.Add(1)
			return i, &tcpip.ErrClosedForSend{}
		}
	}
	return list.Len(), nil
}

// Read gives the device packets of the stack to encrypt: the first is waited for, what else is there comes with it.
func (t *tunnel) Read(bufs [][]byte, sizes []int, offset int) (n int, err error) {
	t.outside.wait(t.closed)
	for n < len(bufs) {
		if t.cut == nil {
			pkt := t.next(n == 0)
			if pkt == nil {
				break
			}
			t.cut = newSegments(pkt, int(t.mtu.Load()))
		}
		size := t.cut.next(bufs[n][offset:])
		if size == 0 {
			t.cut.release()
			t.cut = nil
			continue
		}
		sizes[n] = size
		t.tx.add(size)
		n++
	}
	if n == 0 {
		return 0, os.ErrClosed
	}
	t.outside.enter(n)
	return n, nil
}

func (t *tunnel) next(wait bool) *stack.PacketBuffer {
	select {
	case pkt := <-t.out:
		return pkt
	default:
	}
	if !wait {
		return nil
	}
	select {
	case pkt := <-t.out:
		return pkt
	case <-t.closed:
		return nil
	}
}

// Write gives the stack packets that the device has decrypted. Their checksums need no check: the tunnel has one of its
// own, that nobody can forge.
func (t *tunnel) Write(bufs [][]byte, offset int) (int, error) {
	t.inside.leave(len(bufs))
	t.writing.Lock()
	defer t.writing.Unlock()
	for _, b := range bufs {
		packet := b[offset:]
		var proto tcpip.NetworkProtocolNumber
		switch header.IPVersion(packet) {
		case header.IPv4Version:
			proto = header.IPv4ProtocolNumber
		case header.IPv6Version:
			proto = header.IPv6ProtocolNumber
		default:
			t.lost.rx.Add(1)
			continue
		}
		t.rx.add(len(packet))
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
		pkt.NetworkProtocolNumber, pkt.RXChecksumValidated = proto, true
		t.gro.Enqueue(pkt)
		pkt.DecRef()
	}
	// Flush gives away the first packet of each of its buckets and forgets to look for the second; a bucket has eight.
	for range 8 {
		t.gro.Flush()
	}
	return len(bufs), nil
}

// DeliverNetworkPacket hands a packet, perhaps of several joined, to the stack.
func (t *tunnel) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if up := t.up.Load(); up != nil {
		(*up).DeliverNetworkPacket(proto, pkt)
	}
}

// DeliverLinkPacket is not used.
func (t *tunnel) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// Close ends the tunnel, after what the stack has sent last has gone out. Whoever is blocked in it returns.
func (t *tunnel) Close() {
	t.stop.Do(func() {
		close(t.closing)
		t.wg.Go(t.part)
	})
}

func (t *tunnel) part() {
	deadline := time.Now().Add(partingTime)
	for len(t.out) > 0 || t.outside.in.Load() > 0 {
		if time.Now().After(deadline) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	t.end(ErrClosed)
	t.device.Close()
	t.bind.conn.Close() // if the device was never up
	for {
		select {
		case pkt := <-t.out:
			pkt.DecRef()
			continue
		default:
		}
		break
	}
	if t.cut != nil {
		t.cut.release()
	}
}

// Wait returns when nothing of the tunnel runs any more.
func (t *tunnel) Wait() { t.wg.Wait() }

// failed ends the link for what its socket said; its owner closes it.
func (t *tunnel) failed(err error) { t.end(fmt.Errorf("the tunnel's socket: %w", err)) }

// Stats says what has passed so far, inside the tunnel.
func (t *tunnel) Stats() Stats {
	return Stats{
		RxFrames: t.rx.frames.Load(), RxBytes: t.rx.bytes.Load(), RxDropped: t.lost.rx.Load(),
		TxFrames: t.tx.frames.Load(), TxBytes: t.tx.bytes.Load(), TxDropped: t.lost.tx.Load(),
	}
}

// What the library asks of a tun.Device, besides Read and Write.

// File is nil: there is no descriptor.
func (t *tunnel) File() *os.File { return nil }

// Name is for the library's log, which is off.
func (t *tunnel) Name() (string, error) { return "sallyport", nil }

// Events has none: Attach brings the device up.
func (t *tunnel) Events() <-chan tun.Event { return t.events }

// BatchSize is how many packets Read and Write take.
func (t *tunnel) BatchSize() int { return wireGuardBatch }

// A tun.Device and a link both have MTU and Close, with other results; a card is the tunnel as the library knows it.
type card struct{ *tunnel }

// MTU is that of the packets inside.
func (c card) MTU() (int, error) { return int(c.mtu.Load()), nil }

// Close is called by the device when it is closed, once: its reader is to return.
func (c card) Close() error {
	close(c.closed)
	close(c.events)
	return nil
}

// What the stack asks of a link, besides WritePackets.

func (t *tunnel) MTU() uint32                             { return t.mtu.Load() }
func (t *tunnel) SetMTU(mtu uint32)                       { t.mtu.Store(mtu) }
func (t *tunnel) LinkAddress() tcpip.LinkAddress          { return "" }
func (t *tunnel) SetLinkAddress(tcpip.LinkAddress)        {}
func (t *tunnel) MaxHeaderLength() uint16                 { return 0 }
func (t *tunnel) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (t *tunnel) IsAttached() bool                        { return t.up.Load() != nil }
func (t *tunnel) SetOnCloseAction(func())                 {}
func (t *tunnel) AddHeader(*stack.PacketBuffer)           {}
func (t *tunnel) ParseHeader(*stack.PacketBuffer) bool    { return true }

// GSOMaxSize and SupportedGSO say that TCP may hand down packets far larger than the MTU.
func (t *tunnel) GSOMaxSize() uint32               { return gsoMaxSize }
func (t *tunnel) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// Capabilities: there are no neighbours to find, and what comes in is authentic.
func (t *tunnel) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// insideMax is how many packets may be inside the device in one direction: 64 MiB of buffers. At a gigabit a second it
// is 11 milliseconds' worth.
const insideMax = 1024

// writeOff is how long a full window waits for a packet to come out before all are taken for lost.
const writeOff = 20 * time.Millisecond

// A window counts the packets inside the device in one direction.
type window struct {
	in    *atomic.Int64
	freed chan struct{}
}

func newWindow() window { return window{new(atomic.Int64), make(chan struct{}, 1)} }

func (w window) enter(n int) { w.in.Add(int64(n)) }

// leave may be told of more packets than have entered, for the device has some of its own.
func (w window) leave(n int) {
	if w.in.Add(int64(-n)) < 0 {
		w.in.Store(0)
	}
	select {
	case w.freed <- struct{}{}:
	default:
	}
}

// wait returns when there is room for a batch.
func (w window) wait(closed <-chan struct{}) {
	for w.in.Load() > insideMax-wireGuardBatch {
		late := time.NewTimer(writeOff)
		select {
		case <-w.freed:
		case <-late.C:
			w.in.Store(0)
		case <-closed:
			late.Stop()
			return
		}
		late.Stop()
	}
}
