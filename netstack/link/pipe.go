package link

import (
	"cmp"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// PipeOptions says how a pipe behaves.
type PipeOptions struct {
	MTU int // default 1500

	// Tap sees every frame that either end sends, before it is delivered. The bytes are the tap's to keep.
	Tap func(frame []byte)
}

// pipeQueue is how many frames may be on their way to one end. TCP's windows stay far below it; what comes on top is
// dropped and counted, because two ends that wait for each other would wait for ever.
const pipeQueue = 4096

// Pipe returns two links that are each other's other end, in memory. Large TCP packets pass uncut.
func Pipe(o PipeOptions) (Link, Link) {
	a := &pipe{queue: make(chan *stack.PacketBuffer, pipeQueue), tap: o.Tap}
	b := &pipe{queue: make(chan *stack.PacketBuffer, pipeQueue), tap: o.Tap}
	a.peer, b.peer = b, a
	mtu := uint32(cmp.Or(o.MTU, defaultMTU))
	a.init([6]byte{0x02, 0, 0, 0, 0, 0x0a}, mtu)
	b.init([6]byte{0x02, 0, 0, 0, 0, 0x0b}, mtu)
	return a, b
}

// pipe is one end.
type pipe struct {
	ethernet
	peer  *pipe
	tap   func([]byte)
	queue chan *stack.PacketBuffer // what the peer has sent

	start sync.Once
	wg    sync.WaitGroup
}

// Attach begins to deliver frames to d; nil, at the end, stops that.
func (p *pipe) Attach(d stack.NetworkDispatcher) {
	p.setDispatcher(d)
	if d != nil {
		p.start.Do(func() { p.wg.Go(p.deliver) })
	}
}

func (p *pipe) deliver() {
	for {
		select {
		case pkt := <-p.queue:
			p.receive(pkt)
		case <-p.Done():
			return
		}
	}
}

// WritePackets gives frames to the other end. The bytes are shared with it, not copied.
func (p *pipe) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range list.AsSlice() {
		if p.tap != nil {
			p.tap(join(pkt.AsSlices()))
		}
		size := pkt.Size()
		frame := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: pkt.ToBuffer()})
		select {
		case <-p.Done():
		case <-p.peer.Done():
		default:
			select {
			case p.peer.queue <- frame:
				p.tx.add(size)
				continue
			default:
			}
		}
		p.lost.tx.Add(1)
		frame.DecRef()
	}
	return list.Len(), nil
}

func join(slices [][]byte) []byte {
	var b []byte
	for _, s := range slices {
		b = append(b, s...)
	}
	return b
}

// Close ends this end; what the peer sends from now on is dropped.
func (p *pipe) Close() { p.end(ErrClosed) }

// Wait returns when no frame is being delivered any more.
func (p *pipe) Wait() { p.wg.Wait() }
