package lab

import (
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// captureHead is how much of a frame is kept: Ethernet, IPv6 with extension headers, TCP with options.
	captureHead = 256

	// captureBuffer lets a capture fall behind a bulk transfer on a busy machine; forced, so above rmem_max.
	captureBuffer = 64 << 20
)

// A Capture records every frame that passes a NIC, in both directions.
type Capture struct {
	t       testing.TB
	file    *os.File
	wg      sync.WaitGroup
	stopped bool

	mu      sync.Mutex
	packets []Packet
}

// Capture begins to record at once: a frame that is sent after it has returned is seen.
func (l *Lab) Capture(n *Namespace, nic string) *Capture {
	l.t.Helper()
	c := &Capture{t: l.t, file: l.packetSocket(n, nic)}
	c.wg.Go(c.read)
	l.t.Cleanup(func() { c.Stop() })
	return c
}

// packetSocket opens an AF_PACKET socket on a NIC.
func (l *Lab) packetSocket(n *Namespace, nic string) *os.File {
	l.t.Helper()
	index := n.NIC(nic).Index
	var file *os.File
	err := n.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		file = os.NewFile(uintptr(fd), "packet:"+nic)
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index})
	})
	if err != nil {
		l.t.Fatalf("packet socket on %s: %v", nic, err)
	}
	return file
}

func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }

// read records until the deadline that Stop sets, and then what had arrived before it.
func (c *Capture) read() {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return
	}
	for err == nil {
		err = raw.Read(func(fd uintptr) bool { return c.drain(int(fd)) })
	}
	raw.Control(func(fd uintptr) { c.drain(int(fd)) })
}

// drain takes all frames that are there. It is false, so that raw.Read waits for more, when there are none.
func (c *Capture) drain(fd int) bool {
	buf := make([]byte, captureHead)
	oob := make([]byte, unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{}))))
	for {
		n, oobn, _, from, err := unix.Recvmsg(fd, buf, oob, unix.MSG_TRUNC)
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		if err != nil {
			return true // ENETDOWN passes; the deadline ends the loop
		}
		p := decode(buf[:min(n, len(buf))])
		p.Time, p.Length = passed(oob[:oobn]), n
		if from, ok := from.(*unix.SockaddrLinklayer); ok {
			p.Out = from.Pkttype == unix.PACKET_OUTGOING
		}
		c.mu.Lock()
		c.packets = append(c.packets, p)
		c.mu.Unlock()
		buf = make([]byte, captureHead)
	}
}

// passed is when the kernel saw a frame, which may be long before it is read.
func passed(oob []byte) time.Time {
	if messages, err := unix.ParseSocketControlMessage(oob); err == nil {
		for _, m := range messages {
			if m.Header.Type == unix.SCM_TIMESTAMPNS && len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
				return time.Unix((*unix.Timespec)(unsafe.Pointer(&m.Data[0])).Unix())
			}
		}
	}
	return time.Now()
}

// Packets are those recorded so far.
func (c *Capture) Packets() []Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.packets[:len(c.packets):len(c.packets)]
}

// Stop ends the capture and returns what it has recorded. The test fails if the kernel had to drop a frame.
func (c *Capture) Stop() []Packet {
	if !c.stopped {
		c.stopped = true
		c.file.SetReadDeadline(time.Unix(1, 0))
		c.wg.Wait()
		if lost := c.lost(); lost > 0 {
			c.t.Errorf("capture lost %d frames", lost)
		}
		c.file.Close()
	}
	return c.Packets()
}

func (c *Capture) lost() uint32 {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return 0
	}
	var lost uint32
	raw.Control(func(fd uintptr) {
		if s, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			lost = s.Drops
		}
	})
	return lost
}

// WritePCAP writes the beginnings of the recorded frames for tcpdump or Wireshark.
func (c *Capture) WritePCAP(path string) error {
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = binary.LittleEndian.AppendUint32(b, 2|4<<16) // version 2.4
	b = append(b, make([]byte, 8)...)                // UTC, accuracy
	b = binary.LittleEndian.AppendUint32(b, captureHead)
	b = binary.LittleEndian.AppendUint32(b, 1) // Ethernet
	for _, p := range c.Packets() {
		b = binary.LittleEndian.AppendUint32(b, uint32(p.Time.Unix()))
		b = binary.LittleEndian.AppendUint32(b, uint32(p.Time.Nanosecond()/1000))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p.head)))
		b = binary.LittleEndian.AppendUint32(b, uint32(p.Length))
		b = append(b, p.head...)
	}
	return os.WriteFile(path, b, 0o600)
}
