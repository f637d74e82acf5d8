package host

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// moveIn brings a NIC, which is given by its name or its MAC address, into the VNet's namespace, unless it is there
// already, and returns its name.
func moveIn(path, nic string) (name string, err error) {
	var held []string
	var there string
	if err := inNamespace(path, func() (err error) {
		if held, err = nics(); err == nil && len(held) > 0 {
			there, _ = nameOf(nic) // another one is told below
		}
		return err
	}); err != nil {
		return "", err
	}
	for _, name := range held {
		if name != there {
			return "", fmt.Errorf("its namespace holds %s, not %s; release the VNet first", name, nic)
		}
	}
	if len(held) > 0 {
		return there, nil
	}
	if name, err = nameOf(nic); err != nil {
		return "", err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return "", fmt.Errorf("interface %s: %w", nic, err)
	}
	// IPv6 must be off before the NIC arrives, or it may get an address when it comes up.
	if err := inNamespace(path, silence); err != nil {
		return "", err
	}
	ns, err := namespaceAt(path)
	if err != nil {
		return "", err
	}
	defer ns.Close()
	if err := netlink.LinkSetNsFd(link, int(ns.Fd())); err != nil {
		return "", fmt.Errorf("move %s into %s: %w", nic, path, err)
	}
	return name, nil
}

// nameOf is the name of a NIC in the thread's namespace. Of several that share a MAC address, as a virtual function and
// what is built on it do, none is meant.
func nameOf(nic string) (string, error) {
	if !IsMAC(nic) {
		return nic, nil
	}
	links, err := netlink.LinkList()
	if err != nil {
		return "", fmt.Errorf("list interfaces: %w", err)
	}
	var names []string
	for _, l := range links {
		if a := l.Attrs(); a.EncapType == "ether" && strings.EqualFold(a.HardwareAddr.String(), nic) {
			names = append(names, a.Name)
		}
	}
	if len(names) == 1 {
		return names[0], nil
	}
	return "", fmt.Errorf("interface %s: %d have this address", nic, len(names))
}

// nics are the names of the namespace's network cards: no loopback, and none of the tunnels that kernel modules put into
// every namespace.
func nics() ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var names []string
	for _, l := range links {
		a := l.Attrs()
		if a.EncapType == "ether" && string(a.HardwareAddr) != "\x00\x00\x00\x00\x00\x00" {
			names = append(names, a.Name)
		}
	}
	return names, nil
}

// silence turns off what the kernel does by itself in the thread's namespace.
func silence() error {
	return errors.Join(
		sysctl("ipv6/conf/all/disable_ipv6", "1"),
		sysctl("ipv6/conf/default/disable_ipv6", "1"),
		sysctl("ipv6/conf/all/forwarding", "0"),
		sysctl("ipv4/ip_forward", "0"),
	)
}

// readyNIC makes the NIC of the thread's namespace one that only a packet socket uses, and sets it up.
func readyNIC(nic string) (netlink.Link, []string, error) {
	link, err := netlink.LinkByName(nic)
	if err != nil {
		return nil, nil, fmt.Errorf("interface %s: %w", nic, err)
	}
	if err := errors.Join(silence(), sysctl("ipv6/conf/"+nic+"/disable_ipv6", "1")); err != nil {
		return nil, nil, err
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, nil, fmt.Errorf("addresses of %s: %w", nic, err)
	}
	for _, a := range addrs {
		if err := netlink.AddrDel(link, &a); err != nil {
			return nil, nil, fmt.Errorf("remove %v from %s: %w", a.IPNet, nic, err)
		}
	}
	notes := offloads(nic)
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, nil, fmt.Errorf("set up %s: %w", nic, err)
	}
	return link, notes, nil
}

// offloads turns GRO on, without which bulk receive costs four times as much, and LRO off, whose frames have no record of
// how they were joined. Neither is vital; what the NIC refuses becomes a note.
func offloads(nic string) []string {
	const lro = 1 << 15 // ETH_FLAG_LRO
	var notes []string
	if err := ethtool(nic, unix.ETHTOOL_SGRO, ptr(uint32(1))); err != nil {
		notes = append(notes, fmt.Sprintf("%s: turn GRO on: %v", nic, err))
	}
	var flags uint32
	err := ethtool(nic, unix.ETHTOOL_GFLAGS, &flags)
	if err == nil && flags&lro != 0 {
		err = ethtool(nic, unix.ETHTOOL_SFLAGS, ptr(flags&^lro))
	}
	if err != nil {
		notes = append(notes, fmt.Sprintf("%s: turn LRO off: %v", nic, err))
	}
	return notes
}

func ptr[T any](v T) *T { return &v }

// ethtool passes one value to or from the driver, in the thread's namespace.
func ethtool(nic string, command uint32, value *uint32) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	data := [2]uint32{command, *value} // struct ethtool_value
	req := struct {                    // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&data)}
	copy(req.name[:unix.IFNAMSIZ-1], nic)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return errno
	}
	*value = data[1]
	return nil
}
