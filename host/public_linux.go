package host

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An Addressing is what the kernel is to have on a NIC.
type Addressing struct {
	Addresses []netip.Prefix
	Gateways  []netip.Addr // of the default routes; they need not lie in the network of an address
	MTU       int          // bytes; 0 leaves it as it is
}

// Address gives a NIC of the caller's namespace, by its name or MAC address, just these addresses and routes, and sets it
// and the loopback up. IPv6 is turned on there only if one of the addresses is of it, and takes nothing from routers'
// announcements. The process must be root.
func Address(nic string, a Addressing) error {
	name, link, err := up(nic)
	if err != nil {
		return err
	}
	if lo, err := netlink.LinkByName("lo"); err == nil {
		err = netlink.LinkSetUp(lo) // what a program says to its own address goes by it
		if err != nil {
			return fmt.Errorf("set up lo: %w", err)
		}
	}
	if err := only(name, a); err != nil {
		return err
	}
	if a.MTU > 0 && a.MTU != link.Attrs().MTU {
		if err := netlink.LinkSetMTU(link, a.MTU); err != nil {
			return fmt.Errorf("MTU of %s: %w", nic, err)
		}
	}
	if err := change(link, a.Addresses); err != nil {
		return fmt.Errorf("addresses of %s: %w", nic, err)
	}
	for _, g := range a.Gateways {
		r := netlink.Route{LinkIndex: link.Attrs().Index, Gw: g.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		if err := netlink.RouteReplace(&r); err != nil {
			return fmt.Errorf("gateway %s on %s: %w", g, nic, err)
		}
	}
	return nil
}

// up finds a NIC and sets it up.
func up(nic string) (string, netlink.Link, error) {
	name, err := nameOf(nic)
	if err != nil {
		return "", nil, err
	}
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		return "", nil, fmt.Errorf("interface %s: %w", nic, err)
	}
	return name, link, nil
}

// only lets the kernel speak IPv6 on a NIC if it is to have such an address.
func only(name string, a Addressing) error {
	off := "1"
	for _, p := range a.Addresses {
		if p.Addr().Is6() {
			off = "0"
		}
	}
	return errors.Join(
		sysctl("ipv4/conf/"+name+"/promote_secondaries", "1"), // an address that goes takes no other with it
		sysctl("ipv6/conf/"+name+"/accept_ra", "0"),
		sysctl("ipv6/conf/"+name+"/autoconf", "0"),
		sysctl("ipv6/conf/"+name+"/disable_ipv6", off),
	)
}

// change makes the addresses of a NIC those that are wanted. Connections on those that stay go on.
func change(link netlink.Link, want []netip.Prefix) error {
	have, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, p := range want {
		a := netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, Flags: unix.IFA_F_NODAD}
		if err := netlink.AddrReplace(link, &a); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	for _, a := range have {
		p, ok := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		wanted := false
		for _, w := range want {
			wanted = wanted || w == netip.PrefixFrom(p.Unmap(), ones)
		}
		if !ok || wanted || p.Is6() && p.IsLinkLocalUnicast() && len(want) > 0 {
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil {
			return fmt.Errorf("%s: %w", a.IPNet, err)
		}
	}
	return nil
}

// A Lessee is a child that asks DHCP servers for the kernel's address on a NIC and says what they answer, one line for
// each change. It has no rights and owns nothing, and is to call Confine: it is not for the parent, nor for whom the state
// belongs to, to read what anybody on the network may have sent.
type Lessee struct {
	NIC    string   // by its name or MAC address, in the caller's namespace
	Args   []string // the child's command line; what it says goes to descriptor 4, and 3 is the packet socket
	Output *os.File // the child's standard output and error; default the caller's own
}

// maxLease is how much one line may be.
const maxLease = 4 << 10

// Run keeps a child running and calls told with each line of it, until ctx ends. It returns an error if the NIC cannot be
// used; a child that dies is started again, a little later each time.
func (l Lessee) Run(ctx context.Context, told func(line []byte)) error {
	launch, err := newLauncher()
	if err != nil {
		return err
	}
	defer launch.close()
	var b backoff
	for ctx.Err() == nil {
		begun := time.Now()
		if err := l.once(ctx, launch, told); err != nil {
			return err
		}
		select {
		case <-time.After(max(b.next(time.Since(begun)), backoffMin)):
		case <-ctx.Done():
		}
	}
	return nil
}

// once runs one child to its end.
func (l Lessee) once(ctx context.Context, launch *launcher, told func(line []byte)) error {
	_, link, err := up(l.NIC)
	if err != nil {
		return err
	}
	who, err := lookupAccount(strangerName())
	if err != nil {
		return err
	}
	fd, err := dhcpSocket(link.Attrs().Index)
	if err != nil {
		return err
	}
	socket := os.NewFile(uintptr(fd), "dhcp")
	read, write, err := os.Pipe()
	if err != nil {
		socket.Close()
		return err
	}
	defer read.Close()
	cmd, err := launch.start(slices.Concat(l.Args, []string{link.Attrs().HardwareAddr.String()}), who, l.Output, socket, write)
	socket.Close()
	write.Close()
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	lines := bufio.NewScanner(read)
	lines.Buffer(nil, maxLease)
	for lines.Scan() {
		told(lines.Bytes())
	}
	cmd.Process.Kill() // one that says too much, too
	cmd.Wait()
	return nil
}

// WaitNICs waits until the caller's namespace has all these NICs, given by name or MAC address: their drivers need a
// moment. It calls missing with those that are not there after a while, once, and goes on waiting until ctx ends, whose
// cause it returns then.
func WaitNICs(ctx context.Context, wanted []string, missing func(nics []string)) error {
	const look, patience = 20 * time.Millisecond, 10 * time.Second
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		var absent []string
		for _, nic := range wanted {
			name, err := nameOf(nic)
			if err == nil {
				_, err = netlink.LinkByName(name)
			}
			if err != nil {
				absent = append(absent, nic)
			}
		}
		if len(absent) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.C:
			missing(absent)
		case <-time.After(look):
		}
	}
}
