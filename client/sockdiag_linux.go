package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// errNoDiag says that the kernel does not know the connection, or does not answer questions about single ones: it says the
// same of both.
var errNoDiag = errors.New("the kernel has no answer")

// ownerByDiag asks the kernel for the user of one connection (sock_diag(7)). Reading /proc/net/tcp instead walks through
// the whole table of connections, and empty it takes milliseconds.
func ownerByDiag(from, to netip.AddrPort) (uid int, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return 0, errNoDiag
	}
	defer unix.Close(fd)
	unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1})
	if err := unix.Sendto(fd, diagQuestion(from, to), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, errNoDiag
	}
	answer := make([]byte, 4<<10)
	n, _, err := unix.Recvfrom(fd, answer, 0)
	if err != nil {
		return 0, errNoDiag
	}
	return diagAnswer(answer[:n], from, to)
}

// Sizes of struct nlmsghdr, inet_diag_req_v2 and inet_diag_msg.
const nlHeader, diagRequest, diagMessage = 16, 56, 72

func diagQuestion(from, to netip.AddrPort) []byte {
	ne := binary.NativeEndian
	b := make([]byte, nlHeader+diagRequest)
	ne.PutUint32(b, uint32(len(b)))
	ne.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST)
	r := b[nlHeader:]
	r[0], r[1] = unix.AF_INET, unix.IPPROTO_TCP
	if from.Addr().Is6() {
		r[0] = unix.AF_INET6
	}
	ne.PutUint32(r[4:], ^uint32(0)) // states: all
	binary.BigEndian.PutUint16(r[8:], from.Port())
	binary.BigEndian.PutUint16(r[10:], to.Port())
	copy(r[12:], from.Addr().AsSlice())
	copy(r[28:], to.Addr().AsSlice())
	ne.PutUint64(r[48:], ^uint64(0)) // no cookie
	return b
}

func diagAnswer(b []byte, from, to netip.AddrPort) (uid int, err error) {
	ne := binary.NativeEndian
	if len(b) < nlHeader {
		return 0, errNoDiag
	}
	switch m := b[nlHeader:]; {
	case ne.Uint16(b[4:]) != unix.SOCK_DIAG_BY_FAMILY || len(m) < diagMessage:
		return 0, errNoDiag
	case ne.Uint32(m[68:]) == 0: // no inode
		return 0, fmt.Errorf("nobody holds the connection from %v to %v any more", from, to) // and the user is then said to be root
	case binary.BigEndian.Uint16(m[4:]) != from.Port() || binary.BigEndian.Uint16(m[6:]) != to.Port():
		return 0, errNoDiag
	default:
		return int(ne.Uint32(m[64:])), nil
	}
}
