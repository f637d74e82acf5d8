//go:build !linux

package transport

import "net"

// aggregate returns c: only Linux has UDP_GRO.
func aggregate(c udpSocket) net.PacketConn { return c }

func separate(udpSocket) {}
