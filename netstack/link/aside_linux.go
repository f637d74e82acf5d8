package link

import (
	"context"
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// asideQueue is how many DHCP replies wait to be read: more than the servers of a network that has too many.
const asideQueue = 16

// An aside is a way to speak over a link beside its stack, which does not know that it happens: for DHCP, which goes on
// before there is an address. It sees copies of DHCP replies and nothing else.
type aside struct {
	device *device
	frames chan []byte
}

// Aside returns a link's side door, nil if it has none. It is asked for before the link is attached.
func Aside(l Link) Frames {
	d, ok := l.(*device)
	if !ok {
		return nil
	}
	d.aside = &aside{d, make(chan []byte, asideQueue)}
	return d.aside
}

// offer looks at a frame on its way to the stack and keeps a copy if it is a DHCP reply.
func (a *aside) offer(frame *buffer.Buffer) {
	head := make([]byte, min(int(frame.Size()), 14+60+4))
	frame.ReadAt(head, 0)
	if !isDHCPReply(head) {
		return
	}
	whole := make([]byte, frame.Size())
	frame.ReadAt(whole, 0)
	select {
	case a.frames <- whole:
	default: // nobody waits for it
	}
}

// isDHCPReply says whether a frame is IPv4 and UDP from port 67 to port 68, and not a later part of a datagram.
func isDHCPReply(frame []byte) bool {
	if len(frame) < header.EthernetMinimumSize+header.IPv4MinimumSize || header.Ethernet(frame).Type() != header.IPv4ProtocolNumber {
		return false
	}
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	size := int(ip.HeaderLength())
	if ip.Protocol() != unix.IPPROTO_UDP || ip.FragmentOffset() != 0 || len(ip) < size+4 {
		return false
	}
	return binary.BigEndian.Uint16(ip[size:]) == 67 && binary.BigEndian.Uint16(ip[size+2:]) == 68
}

// ReadFrame waits for the next DHCP reply.
func (a *aside) ReadFrame(ctx context.Context, p []byte) (int, error) {
	select {
	case f := <-a.frames:
		return copy(p, f), nil
	case <-a.device.Done():
		return 0, a.device.Err()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// WriteFrame sends one frame as it is.
func (a *aside) WriteFrame(p []byte) error {
	o := frames.Get().(*outgoing)
	defer frames.Put(o)
	o.vnet = vnetHeader{}
	o.iov = appendIovec(appendIovec(o.iov[:0], o.vnet[:]), p)
	defer func() { clear(o.iov) }()
	if err := a.device.queues[0].raw.Write(o.write); err != nil {
		return ErrClosed
	}
	if o.errno != 0 {
		return o.errno
	}
	return nil
}
