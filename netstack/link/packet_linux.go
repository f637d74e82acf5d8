package link

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Packet attaches to a NIC by AF_PACKET sockets, its queues; it takes them over. The privileged parent has opened them in
// the NIC's namespace, as SOCK_RAW, set PACKET_VNET_HDR and PACKET_IGNORE_OUTGOING, bound them to the NIC and, where there
// are several, joined them by PACKET_FANOUT_HASH, so that the frames of one connection come by one of them.
//
// With PACKET_VNET_HDR a TCP segment of 64 KiB crosses in one system call and is cut by the NIC: measured, that is six
// times the upload of 1,500 bytes a call. AF_PACKET sees frames after the NIC's GRO, so the same holds downward.
func Packet(queues []*os.File, o Options) (Link, error) {
	d, err := open(queues, o, func() fetcher { return newMessages(packetBatch) })
	if err != nil {
		return nil, err
	}
	d.missed = d.socketDrops
	return d, nil
}

// Tap attaches to a TAP device by its descriptor, opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR; it takes f over. A
// TAP gives one frame a call.
func Tap(f *os.File, o Options) (Link, error) {
	d, err := open([]*os.File{f}, o, newVector)
	if err != nil {
		return nil, err
	}
	return d, nil
}

const (
	// packetBatch is how many frames one system call brings. Where the NIC has no GRO, 32 instead of 8 is worth 18 %.
	packetBatch = 32

	// A frame is read into two pieces of contiguous memory: most fit the first, a frame that GRO has glued together
	// needs the second. gVisor's own link reads into pieces from 128 bytes on, which cost more to handle than to copy.
	smallPiece = 2 << 10
	largePiece = 64 << 10
)

// A device is one descriptor or several that give and take frames, each behind a vnetHeader.
type device struct {
	ethernet
	queues []*queue
	closed chan struct{}

	aside *aside // nil unless somebody asked for it

	missed func() uint64 // frames that the kernel has dropped since the last call; nil where it does not say
	total  atomic.Uint64 // of those

	start, stop sync.Once
	wg          sync.WaitGroup
}

// A queue is one descriptor of a device. One goroutine reads it, and one at a time writes to it.
type queue struct {
	*device
	file  *os.File
	raw   syscall.RawConn
	fetch fetcher
}

// A fetcher reads frames without blocking.
type fetcher interface {
	// recv fills slots from the descriptor and says how many.
	recv(fd uintptr) (int, unix.Errno)
	// slot is the i-th of them.
	slot(i int) *slot
	// close gives all memory back.
	close()
}

// open makes a device of descriptors, each with a fetcher of its own. It takes them over, also when it fails.
func open(files []*os.File, o Options, fetch func() fetcher) (*device, error) {
	defer closeFiles(files)
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("link: no descriptor")
	}
	d := &device{closed: make(chan struct{})}
	for _, f := range files {
		q, err := d.openQueue(f)
		if err != nil {
			d.closeQueues()
			return nil, fmt.Errorf("link: %w", err)
		}
		q.fetch = fetch()
		d.queues = append(d.queues, q)
	}
	d.init([6]byte(o.MAC), uint32(o.MTU))
	return d, nil
}

// openQueue duplicates f: a file made anew is known to the runtime's poller, whatever f was.
func (d *device) openQueue(f *os.File) (*queue, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	q := &queue{device: d, file: os.NewFile(uintptr(fd), f.Name())}
	if q.raw, err = q.file.SyscallConn(); err != nil {
		q.file.Close()
		return nil, err
	}
	return q, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func (d *device) closeQueues() {
	for _, q := range d.queues {
		q.file.Close()
	}
}

// Attach begins to deliver frames to up; nil, at the end, stops that.
func (d *device) Attach(up stack.NetworkDispatcher) {
	d.setDispatcher(up)
	if up != nil {
		d.start.Do(func() {
			for _, q := range d.queues {
				d.wg.Go(q.deliver)
			}
		})
	}
}

// deliver reads until the descriptor is closed or the device has gone.
func (q *queue) deliver() {
	defer q.fetch.close()
	q.end(q.read())
}

// read says why it has ended. Between batches it is parked in the runtime's poller, which measured better than a thread
// of its own in poll(2).
func (q *queue) read() error {
	var n int
	var failed unix.Errno
	receive := func(fd uintptr) bool {
		n, failed = q.fetch.recv(fd)
		return failed != unix.EAGAIN
	}
	for {
		if err := q.raw.Read(receive); err != nil {
			return ErrClosed
		}
		switch failed {
		case 0:
			for i := range n {
				q.accept(q.fetch.slot(i))
			}
		case unix.EINTR, unix.ENOBUFS:
			q.lost.rx.Add(1)
		case unix.ENETDOWN:
			if err := q.waitUp(); err != nil {
				return err
			}
		case unix.EBADFD, unix.EIO, unix.ENODEV: // what a TAP says that was deleted
			return ErrGone
		default:
			return fmt.Errorf("read from the device: %w", failed)
		}
	}
}

// lookAgain is how often a NIC that is down is looked at: the kernel tells a packet socket when its NIC goes down, but
// neither when it comes up again nor when it is removed after that.
const lookAgain = 200 * time.Millisecond

// waitUp waits for a NIC that was set down, until it is up or gone, or the link is closed.
func (q *queue) waitUp() error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	down := ErrDown
	for {
		up, err := q.isUp()
		if err != nil {
			return err
		}
		if up {
			q.trouble.Store(nil)
			return nil
		}
		q.trouble.Store(&down)
		select {
		case <-tick.C:
		case <-q.closed:
			return ErrClosed
		}
	}
}

// isUp looks at the NIC that a packet socket is bound to, in the namespace that the socket is in.
func (q *queue) isUp() (up bool, err error) {
	if e := q.raw.Control(func(fd uintptr) { up, err = nicIsUp(int(fd)) }); e != nil {
		return false, ErrClosed
	}
	return up, err
}

func nicIsUp(fd int) (bool, error) {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return false, err
	}
	at, ok := name.(*unix.SockaddrLinklayer)
	if !ok || at.Ifindex <= 0 { // the kernel unbinds the socket of a NIC that it removes
		return false, ErrGone
	}
	req, err := unix.NewIfreq("")
	if err != nil {
		return false, err
	}
	req.SetUint32(uint32(at.Ifindex))
	for _, ask := range []uint{unix.SIOCGIFNAME, unix.SIOCGIFFLAGS} {
		if unix.IoctlIfreq(fd, ask, req) != nil {
			return false, ErrGone
		}
	}
	return req.Uint16()&unix.IFF_UP != 0, nil
}

// socketDrops asks packet sockets what they have dropped; the kernel counts from zero after each question.
func (d *device) socketDrops() (n uint64) {
	for _, q := range d.queues {
		q.raw.Control(func(fd uintptr) {
			if s, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
				n += uint64(s.Drops)
			}
		})
	}
	return n
}

// Stats says what has passed so far.
func (d *device) Stats() Stats {
	s := d.ethernet.Stats()
	if d.missed != nil {
		s.RxMissed = d.total.Add(d.missed())
	}
	return s
}

// accept makes a packet of a slot's frame.
func (d *device) accept(s *slot) {
	payload := s.take()
	if payload.Size() < header.EthernetMinimumSize {
		payload.Release()
		d.lost.rx.Add(1)
		return
	}
	if !s.vnet.vouched() {
		first, second := s.pieces(&payload)
		proto := header.Ethernet(first).Type()
		if !intact(proto, first[header.EthernetMinimumSize:], second) {
			payload.Release()
			d.lost.rx.Add(1)
			return
		}
	}
	if d.aside != nil {
		d.aside.offer(&payload)
	}
	if size := s.vnet.datagrams(); size > 0 {
		whole := payload.Flatten()
		payload.Release()
		for _, f := range split(whole, size) {
			d.receive(stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(f)}))
		}
		return
	}
	d.receive(stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: payload}))
}

// A slot is memory for one incoming frame: the header, and two pieces of which the unused is used again.
type slot struct {
	vnet  vnetHeader
	size  int // of the frame, with its vnetHeader
	views [2]*buffer.View
	iov   [3]unix.Iovec
}

// ready replaces what the last frame took away.
func (s *slot) ready() {
	s.iov[0].Base = &s.vnet[0]
	s.iov[0].SetLen(vnetSize)
	for i, size := range [2]int{smallPiece, largePiece} {
		if s.views[i] == nil {
			s.views[i] = buffer.NewViewSize(size)
			s.iov[i+1].Base = s.views[i].BasePtr()
			s.iov[i+1].SetLen(size)
		}
	}
}

// take gives away the pieces that the frame fills.
func (s *slot) take() buffer.Buffer {
	var b buffer.Buffer
	left := s.size - vnetSize
	for i, v := range s.views {
		if left <= 0 {
			break
		}
		left -= v.Size()
		b.Append(v)
		s.views[i] = nil
	}
	if left < 0 {
		b.Truncate(b.Size() + int64(left))
	}
	return b
}

// pieces are the frame's bytes behind its Ethernet header as the one or two slices that they are in, with the Ethernet
// header before the first.
func (s *slot) pieces(b *buffer.Buffer) (first, second []byte) {
	b.Apply(func(v *buffer.View) {
		if first == nil {
			first = v.AsSlice()
		} else {
			second = v.AsSlice()
		}
	})
	return first, second
}

func (s *slot) release() {
	for i, v := range s.views {
		if v != nil {
			v.Release()
			s.views[i] = nil
		}
	}
}

// messages is recvmmsg: many frames a call.
type messages struct {
	slots []slot
	hdrs  []mmsghdr
}

// mmsghdr is the kernel's struct of that name.
type mmsghdr struct {
	unix.Msghdr
	size uint32
}

func newMessages(n int) *messages {
	m := &messages{slots: make([]slot, n), hdrs: make([]mmsghdr, n)}
	for i := range m.hdrs {
		m.hdrs[i].Iov = &m.slots[i].iov[0]
		m.hdrs[i].SetIovlen(len(m.slots[i].iov))
	}
	return m
}

func (m *messages) recv(fd uintptr) (int, unix.Errno) {
	for i := range m.slots {
		m.slots[i].ready()
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&m.hdrs[0])), uintptr(len(m.hdrs)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	for i := range int(n) {
		m.slots[i].size = int(m.hdrs[i].size)
	}
	return int(n), 0
}

func (m *messages) slot(i int) *slot { return &m.slots[i] }

func (m *messages) close() {
	for i := range m.slots {
		m.slots[i].release()
	}
}

// vector is readv: one frame a call.
type vector struct{ one slot }

func newVector() fetcher { return new(vector) }

func (v *vector) recv(fd uintptr) (int, unix.Errno) {
	v.one.ready()
	n, _, errno := unix.Syscall(unix.SYS_READV, fd, uintptr(unsafe.Pointer(&v.one.iov[0])), uintptr(len(v.one.iov)))
	if errno != 0 {
		return 0, errno
	}
	v.one.size = int(n)
	return 1, 0
}

func (v *vector) slot(int) *slot { return &v.one }

func (v *vector) close() { v.one.release() }

// An outgoing frame on its way into writev: a header and the packet's slices.
type outgoing struct {
	vnet  vnetHeader
	iov   []unix.Iovec
	errno unix.Errno
	write func(fd uintptr) bool
}

// frames keeps outgoing structs, each with its closure, so that sending does not allocate.
var frames = sync.Pool{New: func() any {
	o := &outgoing{iov: make([]unix.Iovec, 0, 16)}
	o.write = func(fd uintptr) bool {
		_, _, o.errno = unix.Syscall(unix.SYS_WRITEV, fd, uintptr(unsafe.Pointer(&o.iov[0])), uintptr(len(o.iov)))
		return o.errno != unix.EAGAIN
	}
	return o
}}

// WritePackets sends one frame a call, since TCP hands down one, of up to 64 KiB, at a time. When the device is full
// it waits: the sender's pace is the device's, and nothing is dropped here. A connection's packets go out by one queue,
// since they would overtake each other otherwise.
func (d *device) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	o := frames.Get().(*outgoing)
	defer func() {
		clear(o.iov) // the packets' memory is not ours to keep
		frames.Put(o)
	}()
	for i, pkt := range list.AsSlice() {
		size := pkt.Size()
		o.vnet.describe(pkt)
		o.iov = appendIovec(o.iov[:0], o.vnet[:])
		views, unused := pkt.AsViewList() // AsSlices would allocate
		for v := views.Front(); v != nil; v = v.Next() {
			skip := min(unused, v.Size())
			o.iov = appendIovec(o.iov, v.AsSlice()[skip:])
			unused -= skip
		}
		err := d.queues[pkt.Hash%uint32(len(d.queues))].raw.Write(o.write)
		if err == nil && o.errno == 0 {
			d.tx.add(size)
			continue
		}
		d.lost.tx.Add(1)
		switch {
		case err != nil:
			return i, &tcpip.ErrClosedForSend{}
		case o.errno == unix.EMSGSIZE:
			return i, &tcpip.ErrMessageTooLong{}
		case o.errno == unix.ENETDOWN, o.errno == unix.ENXIO, o.errno == unix.EIO: // EIO is a TAP's word for it
			return i, &tcpip.ErrNetworkUnreachable{}
		case o.errno != unix.ENOBUFS: // ENOBUFS is a queue below that has dropped the frame: TCP will notice
			return i, &tcpip.ErrInvalidEndpointState{}
		}
	}
	return list.Len(), nil
}

func appendIovec(iov []unix.Iovec, b []byte) []unix.Iovec {
	if len(b) == 0 {
		return iov
	}
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return append(iov, v)
}

// Close closes the descriptors. Whoever is blocked in them returns.
func (d *device) Close() {
	d.stop.Do(func() {
		d.end(ErrClosed)
		close(d.closed)
		d.closeQueues()
	})
}

// Wait returns when no frame is being delivered any more.
func (d *device) Wait() { d.wg.Wait() }

func (o Options) validate() error {
	if len(o.MAC) != 6 || o.MAC[0]&1 != 0 {
		return errors.New("link: a MAC of six bytes that is no group address is needed")
	}
	if o.MTU < header.IPv6MinimumMTU || o.MTU > largePiece {
		return fmt.Errorf("link: an MTU of %d does not carry IPv6", o.MTU)
	}
	return nil
}
