package dhcp

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

const (
	etherSize, ipSize, udpSize = 14, 20, 8

	overhead = etherSize + ipSize + udpSize
	maxFrame = etherSize + 1500

	serverPort, clientPort = 67, 68
)

// A destination is where a question goes: a frame's and a packet's address, and our own if we have one.
type destination struct {
	mac  net.HardwareAddr
	addr netip.Addr
	from netip.Addr
}

var broadcast = destination{net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, netip.AddrFrom4([4]byte{255, 255, 255, 255}), netip.IPv4Unspecified()}

// wrap puts a message into UDP, IPv4 and Ethernet.
func wrap(from net.HardwareAddr, to destination, message []byte) []byte {
	f := make([]byte, overhead, overhead+len(message))
	f = append(f, message...)
	copy(f[0:], to.mac)
	copy(f[6:], from)
	binary.BigEndian.PutUint16(f[12:], 0x0800)
	ip := f[etherSize:]
	ip[0], ip[8], ip[9] = 0x45, 64, 17 // version and header size, TTL, UDP
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	src, dst := to.from.As4(), to.addr.As4()
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip[:ipSize]))
	udp := ip[ipSize:]
	binary.BigEndian.PutUint16(udp[0:], clientPort)
	binary.BigEndian.PutUint16(udp[2:], serverPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	pseudo := sum(uint32(17+len(udp)), ip[12:20])
	check := ^sum(uint32(pseudo), udp)
	if check == 0 { // which would mean that there is none
		check = 0xffff
	}
	binary.BigEndian.PutUint16(udp[6:], check)
	return f
}

// unwrap finds the message in a frame, and who has sent the frame. The UDP checksum is not looked at: a server on this
// machine leaves it to a NIC that is none.
func unwrap(f []byte) (message []byte, from net.HardwareAddr, ok bool) {
	if len(f) < overhead || binary.BigEndian.Uint16(f[12:]) != 0x0800 {
		return nil, nil, false
	}
	from = append(from, f[6:12]...)
	ip := f[etherSize:]
	size, total := int(ip[0]&0xf)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || size < ipSize || total > len(ip) || total < size+udpSize || sum(0, ip[:size]) != 0xffff ||
		ip[9] != 17 || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
		return nil, nil, false
	}
	udp := ip[size:total]
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if binary.BigEndian.Uint16(udp) != serverPort || binary.BigEndian.Uint16(udp[2:]) != clientPort || length < udpSize || length > len(udp) {
		return nil, nil, false
	}
	return udp[udpSize:length], from, true
}

// sum is the Internet's checksum, not yet inverted.
func sum(s uint32, b []byte) uint16 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// File makes a Conn of a packet socket that has no header before its frames.
func File(f *os.File) Conn { return file{f} }

type file struct{ *os.File }

func (f file) ReadFrame(ctx context.Context, p []byte) (int, error) {
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		return 0, err
	}
	set := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(set)
		f.SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			<-set // or the deadline might end the next call, which has cleared it
		}
	}()
	for {
		n, err := f.Read(p)
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case !errors.Is(err, syscall.ENETDOWN): // said once when the NIC is set down, which may come up again
			return n, err
		}
	}
}

func (f file) WriteFrame(p []byte) error {
	_, err := f.Write(p)
	return err
}
