package netstack

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// target makes the address to dial from what a caller of DialContext names, and holds it against the fence. It is the
// same for every make of network.
func target(ctx context.Context, n Network, f Fence, network, address string) (netip.AddrPort, error) {
	none := netip.AddrPort{}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return none, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil || port == 0 {
		return none, fmt.Errorf("%q is not a port", service)
	}
	addr, isAddress, err := ParseAddr(host)
	if err != nil {
		return none, err
	}
	if isAddress {
		err = f.Check(addr)
	} else {
		var addrs []netip.Addr
		if addrs, err = n.LookupNetIP(ctx, ipNetwork(network), host); err == nil {
			addr, err = f.Choose(addrs)
		}
	}
	if err != nil {
		return none, err
	}
	if family := ipNetwork(network); family == "ip4" && !addr.Is4() || family == "ip6" && !addr.Is6() {
		return none, fmt.Errorf("%s is not an address of %s", addr, network)
	}
	return netip.AddrPortFrom(addr, uint16(port)), nil
}

// ipNetwork is "ip4" of "tcp4", "ip6" of "udp6", else "ip".
func ipNetwork(network string) string {
	switch {
	case strings.HasSuffix(network, "4"):
		return "ip4"
	case strings.HasSuffix(network, "6"):
		return "ip6"
	}
	return "ip"
}
