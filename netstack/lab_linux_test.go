package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"sallyport/netstack/link"
)

// A namespace runs functions in a network namespace of its own, all on one thread that is never used for anything else
// and ends with it. It has no name, so the kernel removes it when nobody uses it any more.
type namespace struct {
	work chan func()
	fd   int
	done sync.WaitGroup
}

func newNamespace(t testing.TB) *namespace {
	t.Helper()
	n := &namespace{work: make(chan func())}
	made := make(chan error)
	n.done.Go(func() {
		runtime.LockOSThread() // and never unlock: the thread dies with this goroutine
		handle, err := netns.New()
		n.fd = int(handle)
		made <- err
		if err != nil {
			return
		}
		defer handle.Close()
		for f := range n.work {
			f()
		}
	})
	if err := <-made; err != nil {
		t.Fatalf("network namespace: %v (these tests run as root)", err)
	}
	t.Cleanup(func() {
		close(n.work)
		n.done.Wait()
	})
	return n
}

// do runs f inside and waits for it.
func (n *namespace) do(t testing.TB, f func() error) {
	t.Helper()
	result := make(chan error)
	n.work <- func() { result <- f() }
	if err := <-result; err != nil {
		t.Fatal(err)
	}
}

// A lab is a wire between a kernel, the peer, and a NIC without any address, in a namespace where nothing else is.
type lab struct {
	peer, nic *namespace
	mac       net.HardwareAddr
	ifindex   int
}

const (
	peer4, peer6 = "10.77.0.2", "fd77::2"
	ours4, ours6 = "10.77.0.1", "fd77::1"
)

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{peer: newNamespace(t), nic: newNamespace(t)}
	far, near := fmt.Sprintf("p%d", os.Getpid()), fmt.Sprintf("v%d", os.Getpid())
	l.peer.do(t, func() error {
		err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: far}, PeerName: near, PeerNamespace: netlink.NsFd(l.nic.fd)})
		if err != nil {
			return fmt.Errorf("veth: %w", err)
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		wire, err := netlink.LinkByName(far)
		if err != nil {
			return err
		}
		if err := assign(wire, peer4+"/24", peer6+"/64"); err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		return netlink.LinkSetUp(wire)
	})
	l.nic.do(t, func() error {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+near+"/disable_ipv6", []byte("1"), 0); err != nil {
			return err
		}
		nic, err := netlink.LinkByName(near)
		if err != nil {
			return err
		}
		l.mac, l.ifindex = nic.Attrs().HardwareAddr, nic.Attrs().Index
		return netlink.LinkSetUp(nic)
	})
	l.peer.do(t, func() error { // a frame sent before the wire is up is lost
		for range 100 {
			if wire, err := netlink.LinkByName(far); err != nil || wire.Attrs().OperState == netlink.OperUp {
				return err
			}
			time.Sleep(10 * time.Millisecond)
		}
		return errors.New("the wire does not come up")
	})
	return l
}

// assign gives a kernel's device addresses that are there at once.
func assign(l netlink.Link, addresses ...string) error {
	for _, a := range addresses {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := netlink.AddrAdd(l, addr); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	return nil
}

// openTap makes a TAP device that exists as long as its descriptor, with offloads on.
func openTap(name string, addresses ...string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, fmt.Errorf("TUNSETIFF: %w", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6); err != nil {
		return nil, fmt.Errorf("TUNSETOFFLOAD: %w", err)
	}
	tap, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	if err := assign(tap, addresses...); err != nil {
		return nil, err
	}
	return f, netlink.LinkSetUp(tap)
}

// packetSocket opens a socket on a NIC of the calling thread's namespace, as the privileged parent does.
func packetSocket(ifindex int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "packet")
	for _, o := range []struct{ level, option, value int }{
		{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8 << 20},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4 << 20},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.option, o.value); err != nil {
			f.Close()
			return nil, err
		}
	}
	const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifindex}); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// stack attaches one to the lab's NIC.
func (l *lab) stack(t testing.TB, change func(*Config)) *Stack {
	t.Helper()
	var f *os.File
	l.nic.do(t, func() (err error) {
		f, err = packetSocket(l.ifindex)
		return err
	})
	nic, err := link.Packet([]*os.File{f}, link.Options{MAC: l.mac})
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Name: "lab", Link: nic,
		Addresses: prefixes(ours4+"/24", ours6+"/64"),
		Prefixes:  prefixes("10.77.0.0/24", "fd77::/64"),
	}
	if change != nil {
		change(&c)
	}
	return newStack(t, c)
}

// listen has the peer's kernel listen.
func (l *lab) listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var ln net.Listener
	l.peer.do(t, func() (err error) {
		ln, err = net.Listen("tcp", address)
		return err
	})
	t.Cleanup(func() { ln.Close() })
	return ln
}

// capture counts the frames that reach the peer, by a socket of its own on the peer's end of the wire.
func (l *lab) capture(t testing.TB) (frames func() uint64) {
	t.Helper()
	var f *os.File
	l.peer.do(t, func() error {
		wire, err := netlink.LinkByName(fmt.Sprintf("p%d", os.Getpid()))
		if err != nil {
			return err
		}
		f, err = packetSocket(wire.Attrs().Index)
		return err
	})
	var n atomic.Uint64
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 1<<17)
		for {
			if _, err := f.Read(b); err != nil {
				return
			}
			n.Add(1)
		}
	})
	t.Cleanup(func() {
		f.Close()
		wg.Wait()
	})
	return func() uint64 {
		time.Sleep(50 * time.Millisecond) // for what is still on its way
		return n.Load()
	}
}

// prepare starts a kernel's connect without waiting for it; it is called on the peer's thread. The function it returns
// waits.
func prepare(t testing.TB, host string, port int) func(context.Context) (net.Conn, error) {
	ip := netip.MustParseAddr(host)
	family := unix.AF_INET6
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: port, Addr: ip.As16()}
	if ip.Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: ip.As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Error(err)
		return nil
	}
	if err := unix.Connect(fd, to); err != nil && err != unix.EINPROGRESS {
		t.Error(err)
	}
	return func(ctx context.Context) (net.Conn, error) {
		f := os.NewFile(uintptr(fd), "knock")
		defer f.Close()
		for ctx.Err() == nil {
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			if n, _ := unix.Poll(poll, 10); n > 0 {
				if no, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); no != 0 {
					return nil, syscall.Errno(no)
				}
				return net.FileConn(f)
			}
		}
		return nil, context.Cause(ctx)
	}
}
