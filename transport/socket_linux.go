package transport

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// notSent is how much the kernel may hold of an HTTPS connection that it has not sent yet: little, so that control
// frames are never far behind the data before them, and enough to keep the NIC busy.
const notSent = 128 << 10

// tune prepares the TCP connection under an HTTPS carrier.
func tune(c *net.TCPConn) {
	c.SetKeepAliveConfig(keepAlive)
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSent) })
	}
}

// impatient makes a connection fail whose peer has not acknowledged for so long what was sent: keepalive looks only at
// connections with nothing under way. It is for clients: an appliance reads whatever comes, but a client may be stopped.
func impatient(c *net.TCPConn, limit time.Duration) {
	if raw, err := c.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit.Milliseconds()))
		})
	}
}
