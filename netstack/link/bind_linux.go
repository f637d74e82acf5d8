package link

import (
	"encoding/binary"
	"errors"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cutsDatagrams says whether the kernel cuts one long write into datagrams.
func cutsDatagrams(c *net.UDPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	var asked error
	err = raw.Control(func(fd uintptr) { _, asked = unix.GetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT) })
	return err == nil && asked == nil
}

// controlSize is that of the control message that asks for it.
var controlSize = unix.CmsgSpace(2)

// segmentControl fills in the control message for datagrams of a size.
func segmentControl(b []byte, size int) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	binary.NativeEndian.PutUint16(b[unix.CmsgLen(0):], uint16(size))
}

// refusesToCut says whether a write failed because the NIC, which would have to make the checksums, cannot.
func refusesToCut(err error) bool { return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) }
