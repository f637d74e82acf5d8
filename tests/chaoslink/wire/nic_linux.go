package wire

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketBuffer lets the link fall behind for a moment; forced, so above the system's limits.
const socketBuffer = 64 << 20

// openNIC opens a packet socket on a NIC of the caller's namespace. It sees what comes in, to whomever it goes.
func openNIC(nic *net.Interface) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("packet socket on %s: %w", nic.Name, err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer),
		unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1), // or it would carry back its own
		unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP,
			&unix.PacketMreq{Ifindex: int32(nic.Index), Type: unix.PACKET_MR_PROMISC}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: unix.ETH_P_ALL << 8, Ifindex: nic.Index}),
	)
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("packet socket on %s: %w", nic.Name, err)
	}
	return fd, nil
}

// missed asks a packet socket what it has dropped since the last question.
func missed(fd int) int {
	s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0
	}
	return int(s.Drops)
}

// offloads are ethtool's commands that a NIC must not heed here. The order matters: what needs checksums goes first.
var offloads = []struct {
	command uint32
	name    string
}{
	{unix.ETHTOOL_STSO, "tso"},
	{unix.ETHTOOL_SUFO, "ufo"},
	{unix.ETHTOOL_SGSO, "gso"},
	{unix.ETHTOOL_SGRO, "gro"},
	{unix.ETHTOOL_STXCSUM, "tx"},
}

// Plain makes a NIC of the caller's namespace one whose frames are packets as a cable carries them, of at most its MTU
// and with their checksums. It stays so.
func Plain(nic string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, o := range offloads {
		// A NIC that never had an offload says so in this way.
		if err := ethtool(fd, nic, o.command, 0); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("turn %s of %s off: %w", o.name, nic, err)
		}
	}
	return nil
}

func ethtool(fd int, nic string, command, value uint32) error {
	if len(nic) >= unix.IFNAMSIZ {
		return unix.ENODEV
	}
	data := [2]uint32{command, value}
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:], nic)
	req.data = unsafe.Pointer(&data)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	runtime.KeepAlive(&data)
	if errno != 0 {
		return errno
	}
	return nil
}
