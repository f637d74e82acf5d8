package wire

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many frames one system call takes or gives: a fraction of a veth's backlog of 1,000.
const batchSize = 64

// A batch is the memory of recvmmsg and sendmmsg.
type batch struct {
	hdrs [batchSize]mmsghdr
	iovs [batchSize]unix.Iovec
}

// mmsghdr is the kernel's struct of that name.
type mmsghdr struct {
	unix.Msghdr
	size uint32
}

func newBatch() *batch {
	b := new(batch)
	for i := range b.hdrs {
		b.hdrs[i].Iov = &b.iovs[i]
		b.hdrs[i].SetIovlen(1)
	}
	return b
}

func (b *batch) point(i int, to []byte) {
	b.iovs[i].Base = &to[0]
	b.iovs[i].SetLen(len(to))
}

// recv fills packets without waiting and says how many. With MSG_TRUNC a frame that was too large has its true size.
func (b *batch) recv(fd int, packets []*packet) (int, unix.Errno) {
	for i, p := range packets {
		b.point(i, p.memory)
	}
	n, errno := b.call(unix.SYS_RECVMMSG, fd, len(packets), unix.MSG_DONTWAIT|unix.MSG_TRUNC)
	return n, errno
}

// send sends packets without waiting and says how many.
func (b *batch) send(fd int, packets []*packet) (int, unix.Errno) {
	n := min(len(packets), batchSize)
	for i, p := range packets[:n] {
		b.point(i, p.frame)
	}
	return b.call(unix.SYS_SENDMMSG, fd, n, unix.MSG_DONTWAIT)
}

func (b *batch) call(trap uintptr, fd, n, flags int) (int, unix.Errno) {
	got, _, errno := unix.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&b.hdrs[0])), uintptr(n), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(got), 0
}
