package host

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	vnetHeader  = 10   // struct virtio_net_hdr without num_buffers, as on a packet socket
	tunChecksum = 0x01 // TUN_F_CSUM
	tunTSO4     = 0x02
	tunTSO6     = 0x04
)

// openTAP makes a TAP, in the parent's namespace, with virtio-net headers in front of the frames.
func openTAP(plan LinkPlan) (linkInfo, int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: give the container the device /dev/net/tun, or load the module tun", err)
		}
		return linkInfo{}, -1, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	info, err := setUpTAP(fd, plan)
	if err != nil {
		unix.Close(fd)
		return linkInfo{}, -1, err
	}
	return info, fd, nil
}

func setUpTAP(fd int, plan LinkPlan) (linkInfo, error) {
	req, err := unix.NewIfreq(plan.Interface)
	if err != nil {
		return linkInfo{}, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return linkInfo{}, fmt.Errorf("make TAP %s: %w", plan.Interface, err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnetHeader); err != nil {
		return linkInfo{}, fmt.Errorf("TAP %s: header size: %w", plan.Interface, err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, tunChecksum|tunTSO4|tunTSO6); err != nil {
		return linkInfo{}, fmt.Errorf("TAP %s: offloads: %w", plan.Interface, err)
	}
	link, err := netlink.LinkByName(plan.Interface)
	if err != nil {
		return linkInfo{}, fmt.Errorf("TAP %s: %w", plan.Interface, err)
	}
	// The kernel's side of the cable is a bridge's port or nothing; it is not to get an address by itself.
	if err := sysctl("ipv6/conf/"+plan.Interface+"/disable_ipv6", "1"); err != nil {
		return linkInfo{}, err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return linkInfo{}, fmt.Errorf("set up TAP %s: %w", plan.Interface, err)
	}
	return linkInfo{
		VNet: plan.VNet, Kind: plan.Kind, Interface: plan.Interface, MAC: stackMAC(plan.Interface), MTU: link.Attrs().MTU,
	}, nil
}

// isTAP says whether a descriptor still has its TAP. One that was deleted leaves it behind like one that never had any.
func isTAP(fd int) bool {
	req, err := unix.NewIfreq("")
	return err == nil && unix.IoctlIfreq(fd, unix.TUNGETIFF, req) == nil
}

// stackMAC is the address of our end of the cable, which the kernel's own must differ from. It stays the same over
// restarts of the machine, and differs between machines.
func stackMAC(name string) net.HardwareAddr {
	machine, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		machine = []byte(rand.Text())
	}
	sum := sha256.Sum256(append(machine, name...))
	return append(net.HardwareAddr{0x02}, sum[:5]...) // locally administered, unicast
}
