//go:build !linux

package transport

import (
	"net"
	"time"
)

// notSent is the send buffer, where the kernel cannot be told how much may wait unsent: control frames are never
// further behind the data before them.
const notSent = 256 << 10

// tune prepares the TCP connection under an HTTPS carrier.
func tune(c *net.TCPConn) {
	c.SetKeepAliveConfig(keepAlive)
	c.SetWriteBuffer(notSent)
}

// impatient leaves it to the system how long a peer may acknowledge nothing.
func impatient(*net.TCPConn, time.Duration) {}
