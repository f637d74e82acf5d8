package client

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// ownConnection says whether the socket at from, which is connected to to, belongs to this process's user.
func ownConnection(from, to netip.AddrPort) (bool, error) {
	uid, err := ownerByDiag(from, to)
	if !errors.Is(err, errNoDiag) {
		return uid == os.Getuid(), err
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue // a kernel without IPv6
		}
		uid, err := ownerOf(f, from, to)
		f.Close()
		if err == nil {
			return uid == os.Getuid(), nil
		}
	}
	return false, errors.New("the connection is in no table")
}

// ownerOf finds the user of a connection in a table of the form of /proc/net/tcp.
func ownerOf(table io.Reader, from, to netip.AddrPort) (uid int, err error) {
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 {
			continue
		}
		local, localErr := parseEndpoint(fields[1])
		remote, remoteErr := parseEndpoint(fields[2])
		if localErr == nil && remoteErr == nil && local == from && remote == to {
			if fields[9] == "0" {
				return 0, fmt.Errorf("nobody holds the connection from %v to %v any more", from, to) // and the user is then said to be root
			}
			return strconv.Atoi(fields[7])
		}
	}
	return 0, fmt.Errorf("no connection from %v to %v", from, to)
}

// parseEndpoint reads an address as the kernel prints it: words of 32 bits in the machine's byte order, a colon and the
// port.
func parseEndpoint(s string) (netip.AddrPort, error) {
	words, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(words)
	if err != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is not an address", s)
	}
	for i := 0; i < len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	addr, ok := netip.AddrFromSlice(b)
	n, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q is not an address", s)
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), nil
}
