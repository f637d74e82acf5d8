package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

const netnsRoot = "/run/netns" // where ip(8) keeps the names of namespaces

// A Namespace is one machine of the lab: a network stack of its own on the files and processes of this one.
type Namespace struct {
	Name string // as ip(8) knows it

	lab *Lab
}

// namespace makes an empty namespace with a loopback.
func (l *Lab) namespace(name string) *Namespace {
	l.t.Helper()
	n := &Namespace{Name: l.id + "-" + name, lab: l}
	if err := ip([]string{"netns add " + n.Name}); err != nil {
		l.t.Fatal(err)
	}
	// Duplicate address detection would keep IPv6 addresses unusable for a second.
	n.sysctl("net/ipv6/conf/all/accept_dad", "0")
	n.sysctl("net/ipv6/conf/default/accept_dad", "0")
	n.ip("link set lo up")
	return n
}

// Path is the file that stands for the namespace, for setns and nsenter.
func (n *Namespace) Path() string { return filepath.Join(netnsRoot, n.Name) }

// AddAddress gives a NIC one more address, usable at once.
func (n *Namespace) AddAddress(nic string, p netip.Prefix) {
	n.lab.t.Helper()
	n.address(nic, p.String())
}

func (n *Namespace) address(nic string, prefixes ...string) {
	n.lab.t.Helper()
	for _, p := range prefixes {
		n.ip(fmt.Sprintf("addr add %s dev %s nodad", p, nic))
	}
}

func (n *Namespace) ip(batch ...string) {
	n.lab.t.Helper()
	if err := ip(batch, "-n", n.Name); err != nil {
		n.lab.t.Fatal(err)
	}
}

func (n *Namespace) sysctl(name, value string) {
	n.lab.t.Helper()
	err := n.Do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) })
	if err != nil {
		n.lab.t.Fatal(err)
	}
}

// Do runs f on a thread that is in the namespace. Sockets that f opens stay there; goroutines that f starts do not, so
// f must not resolve names. The thread is never used for anything else and ends with f.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error, 1)
	go offMain(func() { done <- n.enter(f) })
	return <-done
}

func (n *Namespace) enter(f func() error) error {
	fd, err := unix.Open(n.Path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", n.Name, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter namespace %s: %w", n.Name, err)
	}
	return f()
}

// offMain runs f on a locked thread that is not the process's first: that one cannot end, and would stay in the
// namespace and speak for the whole process in /proc.
func offMain(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return // still locked: the thread ends here
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		offMain(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

// Command is exec.CommandContext inside the namespace. The process that it starts is the program itself.
func (n *Namespace) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + n.Path(), "--", name}, args...)...)
}

// Run runs a program in the namespace to its end and returns what it printed; the test fails if the program does.
func (n *Namespace) Run(name string, args ...string) string {
	n.lab.t.Helper()
	out, err := n.Command(n.lab.t.Context(), name, args...).CombinedOutput()
	if err != nil {
		n.lab.t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// DialContext is net.Dialer's, from inside the namespace. The address must be numeric.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, err
	}
	var c net.Conn
	err := n.Do(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Listen is net.Listen inside the namespace. The address must be numeric.
func (n *Namespace) Listen(network, address string) (net.Listener, error) {
	var l net.Listener
	err := n.Do(func() (err error) {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket is net.ListenPacket inside the namespace. The address must be numeric.
func (n *Namespace) ListenPacket(network, address string) (net.PacketConn, error) {
	var c net.PacketConn
	err := n.Do(func() (err error) {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// NIC is a network interface as the namespace sees it.
func (n *Namespace) NIC(name string) *net.Interface {
	n.lab.t.Helper()
	var nic *net.Interface
	err := n.Do(func() (err error) {
		nic, err = net.InterfaceByName(name)
		return err
	})
	if err != nil {
		n.lab.t.Fatal(err)
	}
	return nic
}

// addr is the address by which the others know a server in the namespace.
func (n *Namespace) addr() netip.Addr {
	n.lab.t.Helper()
	for _, nic := range []string{"eth0", "client0"} { // of the router, the side towards the client
		if n.hasNIC(nic) {
			return n.Addrs(nic)[0]
		}
	}
	n.lab.t.Fatalf("namespace %s has no address", n.Name)
	return netip.Addr{}
}

func (n *Namespace) hasNIC(name string) bool {
	return n.Do(func() error {
		_, err := net.InterfaceByName(name)
		return err
	}) == nil
}

// Addrs are the global addresses of a NIC, IPv4 before IPv6 and otherwise in the order in which they were given.
func (n *Namespace) Addrs(nic string) []netip.Addr {
	n.lab.t.Helper()
	var v4, v6 []netip.Addr
	err := n.Do(func() error {
		i, err := net.InterfaceByName(nic)
		if err != nil {
			return err
		}
		addrs, err := i.Addrs()
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			switch {
			case err != nil:
				return err
			case p.Addr().Is4():
				v4 = append(v4, p.Addr())
			case !p.Addr().IsLinkLocalUnicast():
				v6 = append(v6, p.Addr())
			}
		}
		return err
	})
	if err != nil {
		n.lab.t.Fatal(err)
	}
	return append(v4, v6...)
}
