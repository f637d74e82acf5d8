package host

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var cables atomic.Int64

// A cable is a veth pair: one end is a NIC of this machine, the other lies in a namespace of its own.
type cable struct {
	nic  string
	far  string // the other namespace, as a path
	mac  net.HardwareAddr
	peer int // packet socket on the far end
}

const farMAC = "020000000001"

// newCable makes a NIC that has addresses, as one that the system had configured.
func newCable(t *testing.T) *cable {
	t.Helper()
	n := cables.Add(1)
	c := &cable{nic: fmt.Sprintf("sp%dn%d", os.Getpid(), n), far: filepath.Join(t.TempDir(), "far")}
	if err := ensureNamespace(c.far); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(c.far, unix.MNT_DETACH) }) // the cable goes with it
	run(t, "ip", "link", "add", c.nic, "type", "veth", "peer", "name", c.nic+"f")
	run(t, "ip", "link", "set", c.nic+"f", "netns", c.far, "address", "02:00:00:00:00:01")
	run(t, "ip", "addr", "add", "192.0.2.1/24", "dev", c.nic)
	run(t, "ip", "link", "set", c.nic, "up", "mtu", "1400")
	nic, err := net.InterfaceByName(c.nic)
	if err != nil {
		t.Fatal(err)
	}
	c.mac = nic.HardwareAddr
	c.peer = -1
	if err := inNamespace(c.far, func() error {
		if err := silence(); err != nil {
			return err
		}
		link, err := netlink.LinkByName(c.nic + "f")
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err == nil {
			c.peer, err = packetSocket(link.Attrs().Index, unix.ETH_P_ALL, func(int) error { return nil })
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(c.peer) })
	return c
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

// send puts a frame with the payload on the far end.
func (c *cable) send(t *testing.T, payload string) {
	t.Helper()
	if _, err := unix.Write(c.peer, frame(t, payload)); err != nil {
		t.Fatal(err)
	}
}

// frame is an Ethernet broadcast of a type that no kernel cares for, or of the type that payload begins with.
func frame(t *testing.T, payload string) []byte {
	t.Helper()
	b, err := hex.DecodeString("ffffffffffff" + farMAC + payload)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, make([]byte, max(0, 60-len(b)))...)
}

// inside runs ip(8) in a VNet's namespace.
func (r *rig) inside(vnet string, args ...string) string {
	r.t.Helper()
	return run(r.t, "nsenter", append([]string{"--net=" + namespacePath(r.runDir, vnet), "ip"}, args...)...)
}

// TestPacketQueues: each frame comes by one of a NIC's sockets, all frames of a connection by the same one.
func TestPacketQueues(t *testing.T) {
	const queues, connections, each = 4, 32, 3
	c := newCable(t)
	r := start(t, Plan{Links: []LinkPlan{{VNet: "hub", Kind: Packet, Interface: c.nic, DHCP: true, Queues: queues}}})
	t.Cleanup(func() {
		r.end()
		Release(r.runDir, "hub")
	})
	r.want(strconv.Itoa(queues), "queues hub")
	r.want(fmt.Sprintf("packet %s %v 1400 dhcp=true", c.nic, c.mac), "link hub")
	for i := range connections * each {
		c.send(t, fmt.Sprintf("0800"+"4500002400000000"+"4011"+"0000"+"0a000001"+"0a000002"+"%04x"+"0016"+"00100000"+"00000000", 40000+i%connections))
	}
	by, frames, used := map[string]int{}, 0, map[int]bool{}
	for queue := range queues {
		for {
			got := r.ask("receive hub %d", queue)
			_, ip, ok := strings.Cut(got, farMAC+"0800")
			if !ok {
				break
			}
			connection := ip[40:44]
			if other, known := by[connection]; known && other != queue {
				t.Errorf("connection %s came by queues %d and %d", connection, other, queue)
			}
			by[connection], used[queue] = queue, true
			frames++
		}
	}
	if frames != connections*each || len(by) != connections || len(used) < 2 {
		t.Errorf("%d frames of %d connections by %d queues; want %d of %d by several", frames, len(by), len(used), connections*each, connections)
	}
}

func TestPacketLink(t *testing.T) {
	c := newCable(t)
	plan := Plan{Links: []LinkPlan{{VNet: "hub", Kind: Packet, Interface: c.nic, DHCP: true}}}
	r := start(t, plan)
	t.Cleanup(func() { // also when the test has failed
		r.end()
		Release(r.runDir, "hub")
	})
	want := fmt.Sprintf("packet %s %v 1400 dhcp=true", c.nic, c.mac)
	r.want(want, "link hub")
	if _, err := net.InterfaceByName(c.nic); err == nil {
		t.Error("the NIC is still in our namespace")
	}
	checkSilent := func() {
		t.Helper()
		if got := r.inside("hub", "addr", "show", "dev", c.nic); strings.Contains(got, "inet") || !strings.Contains(got, "UP") {
			t.Errorf("NIC:\n%s", got)
		}
		if got := r.inside("hub", "route", "show", "table", "all"); strings.TrimSpace(got) != "" {
			t.Errorf("routes:\n%s", got)
		}
	}
	checkSilent()
	if err := inNamespace(namespacePath(r.runDir, "hub"), func() error {
		for name, want := range map[string]string{
			"ipv6/conf/all/disable_ipv6": "1", "ipv6/conf/default/disable_ipv6": "1", "ipv6/conf/" + c.nic + "/disable_ipv6": "1",
			"ipv4/ip_forward": "0", "ipv6/conf/all/forwarding": "0",
		} {
			if got := strings.TrimSpace(read(t, "/proc/sys/net/%s", name)); got != want {
				t.Errorf("%s is %s", name, got)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	// Frames both ways; the worker has a header before each.
	exchange := func(word string) {
		t.Helper()
		c.send(t, "88b5"+word)
		in := strings.Repeat("00", vnetHeader) + "ffffffffffff" + farMAC + "88b5" + word
		if got := r.ask("receive hub"); !strings.HasPrefix(got, in) {
			t.Errorf("received %s, want %s…", got, in)
		}
		r.want("sent", "send hub %x", frame(t, "88b6"+word))
		b := make([]byte, 2000)
		for {
			n, _, err := unix.Recvfrom(c.peer, b, 0)
			if err != nil {
				t.Errorf("nothing arrived: %v", err)
				return
			}
			if strings.HasPrefix(hex.EncodeToString(b[:n]), "ffffffffffff"+farMAC+"88b6"+word) {
				return
			}
		}
	}
	exchange("0001")
	if got := r.ask("receive hub"); !strings.HasPrefix(got, "error:") {
		t.Errorf("the worker sees %s, which it has sent itself", got)
	}

	// The DHCP socket sees the answers of servers and nothing else.
	udp := func(from, to string) string {
		return "0800" + "4500002400000000" + "4011" + "0000" + "c0000202" + "ffffffff" + from + to + "00100000" + "6f666665"
	}
	for _, payload := range []string{"88b50002", udp("0035", "0044"), udp("0044", "0043")} {
		c.send(t, payload)
	}
	c.send(t, udp("0043", "0044"))
	if got := r.ask("dhcp hub"); !strings.HasPrefix(got, "ffffffffffff"+farMAC+udp("0043", "0044")) {
		t.Errorf("dhcp socket: %s", got)
	}
	if got := r.ask("dhcp hub"); !strings.HasPrefix(got, "error:") {
		t.Errorf("dhcp socket: %s", got)
	}

	// The next worker has it, with nothing queued from before, and so has one that asks for a fresh one.
	r.ask("exit 1")
	r.want(want, "link hub")
	exchange("0003")
	r.want("done", "relink hub")
	exchange("0004")

	// The next parent finds the NIC where it is, even if something has put an address on it.
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	r.inside("hub", "addr", "add", "192.0.2.9/24", "dev", c.nic)
	r = startIn(t, r.runDir, plan)
	r.want(want, "link hub")
	checkSilent()
	exchange("0005")

	// Another NIC for the same VNet needs a release first.
	other := newCable(t)
	r.set(Plan{Links: []LinkPlan{{VNet: "hub", Kind: Packet, Interface: other.nic}}})
	r.want("error: relink: link hub: its namespace holds "+c.nic+", not "+other.nic+"; release the VNet first", "relink")
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if err := Release(r.runDir, "hub"); err != nil {
		t.Fatal(err)
	}
	nic, err := net.InterfaceByName(c.nic)
	if err != nil || nic.HardwareAddr.String() != c.mac.String() {
		t.Errorf("the NIC after release: %v, %v", nic, err)
	}
	if _, err := os.Stat(namespacePath(r.runDir, "hub")); err == nil {
		t.Error("the namespace is still there")
	}
	if err := Release(r.runDir, "hub"); err == nil {
		t.Error("released twice")
	}
}

func TestMissingNIC(t *testing.T) {
	r := start(t, Plan{Links: []LinkPlan{{VNet: "hub", Kind: Packet, Interface: "sp-none"}}})
	if err := r.wait(); err == nil || !strings.Contains(err.Error(), "link hub: interface sp-none: Link not found") {
		t.Errorf("%v", err)
	}
	unix.Unmount(namespacePath(r.runDir, "hub"), unix.MNT_DETACH)
}

// A NIC that is gone when a worker starts again costs its VNet, not the others; once it is back a Relink brings it.
func TestNICComesBack(t *testing.T) {
	c := newCable(t)
	r := start(t, Plan{Links: []LinkPlan{{VNet: "hub", Kind: Packet, Interface: c.nic}}})
	t.Cleanup(func() {
		r.end()
		Release(r.runDir, "hub")
	})
	r.want("done", "relink")
	r.inside("hub", "link", "del", c.nic)
	r.ask("exit 1")
	if got := r.ask("link hub"); !strings.Contains(got, "Link not found") {
		t.Errorf("link: %s", got)
	}
	run(t, "ip", "link", "add", c.nic, "type", "veth", "peer", "name", c.nic+"g")
	t.Cleanup(func() { exec.Command("ip", "link", "del", c.nic+"g").Run() }) // and the other end with it
	r.want("done", "relink")
	if got := r.ask("link hub"); !strings.HasPrefix(got, "packet "+c.nic) {
		t.Errorf("link: %s", got)
	}
}

// descriptors is how many this process has.
func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

func TestTAPLink(t *testing.T) {
	name := fmt.Sprintf("sp%dt", os.Getpid())
	plan := Plan{Links: []LinkPlan{{VNet: "lab", Kind: TAP, Interface: name}}}
	r := start(t, plan)
	want := fmt.Sprintf("tap %s %v 1500 dhcp=false", name, stackMAC(name))
	r.want(want, "link lab")
	nic, err := net.InterfaceByName(name)
	if err != nil {
		t.Fatal(err)
	}
	if nic.HardwareAddr.String() == stackMAC(name).String() || nic.Flags&net.FlagUp == 0 {
		t.Errorf("the kernel's side: %v", nic)
	}
	if got := run(t, "ip", "-6", "addr", "show", "dev", name); strings.TrimSpace(got) != "" {
		t.Errorf("it has IPv6 addresses: %s", got)
	}
	peer, err := packetSocket(nic.Index, unix.ETH_P_ALL, func(int) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(peer)
	r.want("sent", "send lab %x", frame(t, "88b50001"))
	b := make([]byte, 2000)
	if n, _, err := unix.Recvfrom(peer, b, 0); err != nil || !strings.HasPrefix(hex.EncodeToString(b[:n]), "ffffffffffff"+farMAC+"88b50001") {
		t.Errorf("on the kernel's side: %x, %v", b[:max(n, 0)], err)
	}
	if _, err := unix.Write(peer, frame(t, "88b60002")); err != nil {
		t.Fatal(err)
	}
	if got := r.ask("receive lab"); !strings.HasPrefix(got, strings.Repeat("00", vnetHeader)+"ffffffffffff"+farMAC+"88b60002") {
		t.Errorf("received %s", got)
	}

	// The same interface goes to the next worker, and to one that asks again.
	r.ask("exit 1")
	r.want(want, "link lab")
	r.want("done", "relink lab")
	if again, err := net.InterfaceByName(name); err != nil || again.Index != nic.Index {
		t.Errorf("another interface: %v, %v", again, err)
	}

	// Deleted, it is made again: for a worker that asks, and for the next one.
	held := descriptors(t)
	for i, another := range []string{"relink lab", "exit 1"} {
		run(t, "ip", "link", "del", name)
		r.ask("%s", another)
		r.want(want, "link lab")
		r.want("sent", "send lab %x", frame(t, fmt.Sprintf("88b5000%d", i)))
		if again, err := net.InterfaceByName(name); err != nil || again.Index == nic.Index || again.Flags&net.FlagUp == 0 {
			t.Errorf("after %s: the interface is %+v, %v", another, again, err)
		}
	}
	if n := descriptors(t); n != held {
		t.Errorf("%d descriptors in the parent, not %d", n, held)
	}

	// While something else has its name there is no link.
	run(t, "ip", "link", "del", name)
	run(t, "ip", "link", "add", name, "type", "bridge")
	t.Cleanup(func() { exec.Command("ip", "link", "del", name).Run() })
	for _, another := range []string{"relink lab", "exit 1", "relink lab"} {
		r.ask("%s", another)
	}
	if got := r.ask("link lab"); !strings.HasPrefix(got, "error: link lab: make TAP "+name) {
		t.Errorf("without its name: %s", got)
	}
	run(t, "ip", "link", "del", name)
	r.want("done", "relink lab")
	r.want(want, "link lab")

	r.set(Plan{})
	r.want("done", "relink")
	r.want("error: link lab: not in the plan", "link lab")
}
