package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

const netnsRoot = "/run/netns" // where ip(8) keeps the names of namespaces

// A space is one machine of the lab: a network stack of its own on the files and processes of this one.
type space struct {
	name string // as ip(8) knows it
	on   *thread
}

// newSpace makes an empty namespace with a loopback.
func newSpace(name string, on *thread) (*space, error) {
	s := &space{name, on}
	if err := ip([]string{"netns add " + name}); err != nil {
		return nil, err
	}
	err := s.ip("link set lo up",
		"route replace local 127.0.0.1 dev lo table local proto kernel scope host src 127.0.0.1"+cubic,
		"route replace local 127.0.0.0/8 dev lo table local proto kernel scope host src 127.0.0.1"+cubic)
	for _, setting := range [][2]string{
		{"net/ipv4/ip_local_port_range", "20000 65000"},
		{"net/ipv4/conf/all/rp_filter", "0"},
		{"net/ipv4/conf/default/rp_filter", "0"},
		{"net/ipv6/conf/all/disable_ipv6", "1"},
		{"net/ipv6/conf/default/disable_ipv6", "1"},
	} {
		err = errors.Join(err, s.sysctl(setting[0], setting[1]))
	}
	return s, err
}

// cubic ends every route. A namespace begins with the machine's congestion control, which may be BBR, and another one can
// only be its default if the machine allows it to everybody; on a route it needs nothing.
const cubic = " congctl cubic"

// address gives a NIC an address with its prefix length, and the network a route.
func (s *space) address(nic, address string) error {
	p, err := netip.ParsePrefix(address)
	if err != nil {
		return err
	}
	return s.ip("addr add "+address+" dev "+nic+" noprefixroute",
		fmt.Sprintf("route replace %v dev %s src %v", p.Masked(), nic, p.Addr())+cubic)
}

func (s *space) path() string { return filepath.Join(netnsRoot, s.name) }

func (s *space) ip(batch ...string) error { return ip(batch, "-n", s.name) }

func (s *space) sysctl(name, value string) error {
	return s.do(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) })
}

// do runs f on a thread that is in the namespace. What f starts stays there: sockets and processes, not goroutines.
func (s *space) do(f func() error) error {
	return s.on.do(func() error {
		fd, err := unix.Open(s.path(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("namespace %s: %w", s.name, err)
		}
		defer unix.Close(fd)
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", s.name, err)
		}
		return f()
	})
}

// ip runs a batch of ip(8) commands; args come before the batch.
func ip(batch []string, args ...string) error {
	cmd := exec.Command("ip", append(args, "-batch", "-")...)
	cmd.Stdin = strings.NewReader(strings.Join(batch, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %q: %w: %s", strings.Join(args, " "), batch, err, out)
	}
	return nil
}

// A thread of the operating system does what is to happen in a namespace. It lives as long as the lab: the kernel kills
// the processes that it has started when it ends (PDEATHSIG watches the thread, not the process).
type thread struct {
	jobs chan func()
	done chan struct{}
}

func newThread() (*thread, error) {
	t := &thread{make(chan func()), make(chan struct{})}
	ready := make(chan error)
	go t.run(ready)
	return t, <-ready
}

// run never unlocks the thread, so that it ends here whatever namespace it may be in.
func (t *thread) run(ready chan<- error) {
	defer close(t.done)
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	ready <- err
	if err != nil {
		return
	}
	defer unix.Close(home)
	for job := range t.jobs {
		job()
		if err := unix.Setns(home, unix.CLONE_NEWNET); err != nil {
			panic(fmt.Sprintf("a thread cannot leave its namespace: %v", err)) // what follows would happen in the wrong one
		}
	}
}

func (t *thread) do(f func() error) error {
	result := make(chan error, 1)
	t.jobs <- func() { result <- f() }
	return <-result
}

func (t *thread) close() {
	close(t.jobs)
	<-t.done
}

// Offloads by which a NIC handles more than one frame at a time, in the order in which they can be turned off.
var bigFrames = []uint32{unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO, unix.ETHTOOL_SGRO}

// setBigFrames turns a NIC's segmentation offloads on or off.
func setBigFrames(s *space, nic string, on bool) error {
	return s.do(func() error { return offload(nic, bigFrames, on) })
}

// plain makes a NIC one whose frames are packets as a cable carries them, with their checksums.
func plain(s *space, nic string) error {
	return s.do(func() error {
		return offload(nic, append(bigFrames[:len(bigFrames):len(bigFrames)], unix.ETHTOOL_STXCSUM), false)
	})
}

func offload(nic string, commands []uint32, on bool) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var value uint32
	if on {
		value = 1
	}
	for _, command := range commands {
		// A NIC that never had an offload says so in this way.
		if err := ethtool(fd, nic, command, value); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("set offload %#x of %s: %w", command, nic, err)
		}
	}
	return nil
}

func ethtool(fd int, nic string, command, value uint32) error {
	data := [2]uint32{command, value}
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:unix.IFNAMSIZ-1], nic)
	req.data = unsafe.Pointer(&data)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	runtime.KeepAlive(&data)
	if errno != 0 {
		return errno
	}
	return nil
}
