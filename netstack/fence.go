package netstack

import (
	"errors"
	"fmt"
	"net/netip"
)

// A Fence says which addresses a flow may reach: those inside Prefixes, less the compiled-in list, less Own, less Deny.
// It is a plain value, and the same question always has the same answer.
type Fence struct {
	Prefixes []netip.Prefix // what may be reached at all; nothing, if empty
	Own      []netip.Prefix // the appliance's addresses, each with the subnet it is attached to
	Deny     []netip.Prefix // adds to the compiled-in list; nothing takes away from it
}

// A Reason is why an address is denied.
type Reason string

const (
	Invalid     Reason = "not an address"
	Zone        Reason = "an address with a zone"
	Unspecified Reason = "the unspecified address"
	ThisNetwork Reason = "in 0.0.0.0/8"
	Loopback    Reason = "loopback"
	LinkLocal   Reason = "link-local"
	Metadata    Reason = "a cloud metadata service"
	Platform    Reason = "the cloud platform's own service"
	Multicast   Reason = "multicast"
	Broadcast   Reason = "broadcast"
	Reserved    Reason = "reserved"
	Own         Reason = "the appliance itself"
	Listed      Reason = "on the deny list"
	Outside     Reason = "outside the network's prefixes"
	Unlisted    Reason = "not on the system's list"
)

// A DeniedError is the fence's no.
type DeniedError struct {
	Addr   netip.Addr
	Reason Reason
	Via    netip.Addr // the address that Addr is another spelling of, if that is what is denied
	Always bool       // denied whatever the prefixes are, so one such answer spoils a whole lookup
}

func (e *DeniedError) Error() string {
	if e.Via.IsValid() {
		return fmt.Sprintf("%s is denied: it spells %s, which is %s", e.Addr, e.Via, e.Reason)
	}
	return fmt.Sprintf("%s is denied: it is %s", e.Addr, e.Reason)
}

// compiledIn is what no flow reaches, in the order in which it is asked: the telling reason before the general one.
var compiledIn = []struct {
	prefix netip.Prefix
	reason Reason
}{
	{netip.MustParsePrefix("169.254.169.254/32"), Metadata},
	{netip.MustParsePrefix("100.100.100.200/32"), Metadata},
	{netip.MustParsePrefix("fd00:ec2::254/128"), Metadata},
	{netip.MustParsePrefix("fd20:ce::254/128"), Metadata},
	{netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), Metadata},
	{netip.MustParsePrefix("192.0.0.192/32"), Metadata},
	{netip.MustParsePrefix("168.63.129.16/32"), Platform},
	{netip.MustParsePrefix("0.0.0.0/32"), Unspecified},
	{netip.MustParsePrefix("0.0.0.0/8"), ThisNetwork},
	{netip.MustParsePrefix("127.0.0.0/8"), Loopback},
	{netip.MustParsePrefix("169.254.0.0/16"), LinkLocal},
	{netip.MustParsePrefix("224.0.0.0/4"), Multicast},
	{netip.MustParsePrefix("255.255.255.255/32"), Broadcast},
	{netip.MustParsePrefix("240.0.0.0/4"), Reserved},
	{netip.MustParsePrefix("::/128"), Unspecified},
	{netip.MustParsePrefix("::1/128"), Loopback},
	{netip.MustParsePrefix("fe80::/10"), LinkLocal},
	{netip.MustParsePrefix("fec0::/10"), LinkLocal}, // site-local, of old
	{netip.MustParsePrefix("ff00::/8"), Multicast},
	{netip.MustParsePrefix("::/96"), Reserved},           // "IPv4-compatible", of old
	{netip.MustParsePrefix("::ffff:0:0:0/96"), Reserved}, // "IPv4-translated"
}

// Check returns nil if a flow may go to addr, else a *DeniedError.
func (f Fence) Check(addr netip.Addr) error {
	if !addr.IsValid() {
		return &DeniedError{Addr: addr, Reason: Invalid, Always: true}
	}
	if addr.Zone() != "" {
		return &DeniedError{Addr: addr, Reason: Zone, Always: true}
	}
	plain := addr.Unmap()
	for _, inner := range embedded(plain) {
		if r := f.denial(inner); r != "" {
			return f.denied(addr, inner, r)
		}
	}
	if r := f.denial(plain); r != "" {
		return f.denied(addr, plain, r)
	}
	if !contains(f.Prefixes, plain) {
		return &DeniedError{Addr: addr, Reason: Outside}
	}
	return nil
}

func (f Fence) denied(addr, via netip.Addr, r Reason) *DeniedError {
	if via == addr {
		via = netip.Addr{}
	}
	return &DeniedError{Addr: addr, Via: via, Reason: r, Always: true}
}

// denial is why addr, by this very spelling, is denied whatever the prefixes are.
func (f Fence) denial(addr netip.Addr) Reason {
	for _, own := range f.Own {
		if own.Addr() == addr {
			return Own
		}
		if first, last, ok := ends(own); ok && (addr == first || addr == last) {
			return Broadcast
		}
	}
	for _, c := range compiledIn {
		if c.prefix.Contains(addr) {
			return c.reason
		}
	}
	if contains(f.Deny, addr) {
		return Listed
	}
	return ""
}

// ends are the first and the last address of an IPv4 subnet: both are broadcast, the first by an old convention.
func ends(subnet netip.Prefix) (first, last netip.Addr, ok bool) {
	if !subnet.Addr().Is4() || subnet.Bits() >= 31 {
		return first, last, false
	}
	b := subnet.Masked().Addr().As4()
	first = netip.AddrFrom4(b)
	for i := subnet.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return first, netip.AddrFrom4(b), true
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")
	sixToFour  = netip.MustParsePrefix("2002::/16")
	teredo     = netip.MustParsePrefix("2001::/32")
	compatible = netip.MustParsePrefix("::/96")
	translated = netip.MustParsePrefix("::ffff:0:0:0/96")
)

// embedded are the IPv4 addresses that an IPv6 address spells by one of the transition schemes, of which some machine
// on the way may think that they are meant.
func embedded(addr netip.Addr) []netip.Addr {
	if !addr.Is6() {
		return nil
	}
	b := addr.As16()
	last := netip.AddrFrom4([4]byte(b[12:16]))
	switch {
	case nat64.Contains(addr), translated.Contains(addr), compatible.Contains(addr) && b[12] != 0:
		return []netip.Addr{last}
	case nat64Local.Contains(addr): // RFC 6052 §2.2: after 48, 56, 64 or 96 bits, around a byte of zeros
		inner := []netip.Addr{last}
		for _, b := range [][4]byte{{b[6], b[7], b[9], b[10]}, {b[7], b[9], b[10], b[11]}, {b[9], b[10], b[11], b[12]}} {
			if b[0] != 0 { // else that is not where the address stands
				inner = append(inner, netip.AddrFrom4(b))
			}
		}
		return inner
	case sixToFour.Contains(addr):
		return []netip.Addr{netip.AddrFrom4([4]byte(b[2:6]))}
	case teredo.Contains(addr): // the server, and the client with every bit turned
		return []netip.Addr{netip.AddrFrom4([4]byte(b[4:8])), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})}
	case b[8]&^3 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP, under any prefix
		return []netip.Addr{last}
	}
	return nil
}

// ErrNoAddress is what Choose returns for an empty answer.
var ErrNoAddress = errors.New("no address")

// Choose picks what to dial from a name's addresses: the first that the fence allows. Addresses outside the prefixes
// are skipped; any address that is denied whatever the prefixes are refuses all, for a name that also points at the
// metadata service is no honest name.
func (f Fence) Choose(addrs []netip.Addr) (netip.Addr, error) {
	var chosen netip.Addr
	refusal := ErrNoAddress
	for _, a := range addrs {
		err := f.Check(a)
		var denied *DeniedError
		switch {
		case err == nil && !chosen.IsValid():
			chosen = a.Unmap()
		case errors.As(err, &denied) && denied.Always:
			return netip.Addr{}, err
		case err != nil:
			refusal = err
		}
	}
	if !chosen.IsValid() {
		return netip.Addr{}, refusal
	}
	return chosen, nil
}
