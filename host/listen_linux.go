package host

import (
	"context"
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// socketBuffer is what a UDP or packet socket may queue: QUIC and the VNet's stack come in bursts of many packets, and the
// default of 208 KiB drops them. Forced, so that it does not depend on net.core.rmem_max.
const socketBuffer = 8 << 20

// openListen opens a socket and returns a bare descriptor: the parent must not have it in its poller, where every packet
// for the worker would wake the parent too.
func openListen(l Listen) (int, error) {
	c, err := listen(l)
	if err != nil {
		return -1, fmt.Errorf("listen %s: %w", l.Name, err)
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(old uintptr) {
		fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return -1, err
	}
	return fd, dupErr
}

// A socket is what net.TCPListener and net.UDPConn have in common here.
type socket interface {
	syscall.Conn
	Close() error
}

func listen(l Listen) (socket, error) {
	if l.Network == "tcp" {
		t, err := net.Listen("tcp", l.Address)
		if err != nil {
			return nil, err
		}
		return t.(*net.TCPListener), nil
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) { err = forceBuffers(int(fd)) }); e != nil {
			return e
		}
		return err
	}}
	u, err := config.ListenPacket(context.Background(), "udp", l.Address)
	if err != nil {
		return nil, err
	}
	return u.(*net.UDPConn), nil
}

func forceBuffers(fd int) error {
	for _, option := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, socketBuffer); err != nil {
			return fmt.Errorf("socket buffer: %w", err)
		}
	}
	return nil
}
