package lab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// runRoot holds one directory a lab; it is not under the test's own temporary directory, so that a sweep finds it.
const runRoot = "/run/sallyport-lab"

// Addresses of the lab's fixed part.
var (
	ClientAddr4    = netip.MustParseAddr("10.77.1.2")
	ClientAddr6    = netip.MustParseAddr("fd77:1::2")
	ApplianceAddr4 = netip.MustParseAddr("10.77.2.2")
	ApplianceAddr6 = netip.MustParseAddr("fd77:2::2")
	TargetAddr4    = netip.MustParseAddr("10.99.0.10")
	TargetAddr6    = netip.MustParseAddr("fd99::10")
)

// A Lab is one small internet; see the package's map.
type Lab struct {
	Client, Router, Appliance *Namespace
	VNet                      *VNet  // the first one, on the appliance's NIC vnet0
	Dir                       string // for files, sockets and the appliance's run directory; removed with the lab

	t       testing.TB
	id      string // sp-PID-N, the beginning of every name
	vnets   int
	cables  []cable
	blocked map[blocked]bool
}

// A VNet is a private network with one host in it, the target.
type VNet struct {
	*Namespace
	Interface string // the appliance's NIC in this VNet
}

var (
	labs      atomic.Int64
	sweepOnce sync.Once
)

// New builds a lab that lives as long as the test.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("the lab makes network namespaces and needs root")
	}
	sweepOnce.Do(func() {
		if err := Sweep(); err != nil {
			t.Logf("sweep: %v", err)
		}
	})
	l := &Lab{t: t, id: fmt.Sprintf("%s%d-%d", namePrefix, os.Getpid(), labs.Add(1)), blocked: map[blocked]bool{}}
	l.Dir = filepath.Join(runRoot, l.id)
	t.Cleanup(l.remove)
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l.Client = l.namespace("client")
	l.Router = l.namespace("router")
	l.Appliance = l.namespace("appliance")
	l.connect(l.Client, "eth0", l.Router, "client0")
	l.connect(l.Router, "appliance0", l.Appliance, "eth0")
	l.Client.address("eth0", "10.77.1.2/24", "fd77:1::2/64")
	l.Router.address("client0", "10.77.1.1/24", "fd77:1::1/64")
	l.Router.address("appliance0", "10.77.2.1/24", "fd77:2::1/64")
	l.Appliance.address("eth0", "10.77.2.2/24", "fd77:2::2/64")
	l.Client.ip("route add default via 10.77.1.1", "route add default via fd77:1::1")
	l.Appliance.ip("route add default via 10.77.2.1", "route add default via fd77:2::1")
	l.Router.sysctl("net/ipv4/ip_forward", "1")
	l.Router.sysctl("net/ipv6/conf/all/forwarding", "1")
	l.VNet = l.AddVNet("vnet", netip.PrefixFrom(TargetAddr4, 16), netip.PrefixFrom(TargetAddr6, 64))
	return l
}

// AddVNet adds a VNet whose host has the given addresses. They may repeat those of another VNet.
func (l *Lab) AddVNet(name string, prefixes ...netip.Prefix) *VNet {
	l.t.Helper()
	v := &VNet{Namespace: l.namespace(name), Interface: fmt.Sprintf("vnet%d", l.vnets)}
	l.vnets++
	l.connect(l.Appliance, v.Interface, v.Namespace, "eth0")
	for _, p := range prefixes {
		v.AddAddress("eth0", p)
	}
	return v
}

// connect lays a cable between two new NICs and sets both up.
func (l *Lab) connect(a *Namespace, nicA string, b *Namespace, nicB string) {
	l.t.Helper()
	a.ip(fmt.Sprintf("link add %s type veth peer name %s netns %s", nicA, nicB, b.Name), "link set "+nicA+" up")
	b.ip("link set " + nicB + " up")
	l.cables = append(l.cables, cable{a, nicA, b, nicB})
}

// remove ends what still runs in the lab and takes the lab down.
func (l *Lab) remove() {
	for _, err := range removeLab(l.id) {
		l.t.Errorf("lab: %v", err)
	}
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
