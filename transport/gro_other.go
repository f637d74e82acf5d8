//go:build !linux

package transport

import (
	"net"

	"github.com/quic-go/quic-go"
)

// aggregate returns c: only Linux has UDP_GRO.
func aggregate(c udpSocket) net.PacketConn { return c }

func separate(udpSocket) {}

// follow does nothing: who reads packet by packet is seldom ahead of a connection.
func follow(net.PacketConn, *quic.Conn) (forget func()) { return func() {} }
