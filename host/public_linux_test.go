package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNICByMAC: a NIC may be meant by its address. The next parent finds it in its namespace.
func TestNICByMAC(t *testing.T) {
	c := newCable(t)
	dir := t.TempDir()
	plan := Plan{Links: []LinkPlan{{VNet: "hub", Kind: Packet, Interface: strings.ToUpper(c.mac.String())}}}
	t.Cleanup(func() { Release(dir, "hub") })
	for range 2 {
		r := startIn(t, dir, plan)
		r.want(fmt.Sprintf("packet %s %v 1400 dhcp=false", c.nic, c.mac), "link hub")
		r.end()
	}
	networks, err := Survey(dir)
	if err != nil || len(networks) != 2 {
		t.Fatalf("%+v, %v", networks, err)
	}
	if own := networks[0]; own.VNet != "" || own.Addresses == 0 || own.Routes == 0 {
		t.Errorf("this machine's own network is seen as %+v", own)
	}
	if hub := networks[1]; hub.VNet != "hub" || hub.Addresses != 0 || hub.Routes != 0 || len(hub.NICs) != 1 || hub.NICs[0] != c.nic {
		t.Errorf("the VNet's is seen as %+v", hub)
	}
}

// TestAddress: a NIC gets what it is to have, loses what it is not to have, and speaks IPv6 only if it is to.
func TestAddress(t *testing.T) {
	c := newCable(t)
	nic := c.nic + "f"
	for i, step := range []struct {
		a              Addressing
		have, routes   string
		others, absent string
	}{
		{Addressing{Addresses: prefixes("198.51.100.7/24", "198.51.100.8/24"), Gateways: addrs("198.51.100.1"), MTU: 1380},
			"198.51.100.7/24 198.51.100.8/24", "default via 198.51.100.1", "mtu 1380", "inet6"},
		{Addressing{Addresses: prefixes("198.51.100.8/24", "2001:db8::8/64"), Gateways: addrs("198.51.100.2", "2001:db8::1")},
			"198.51.100.8/24 2001:db8::8/64", "default via 198.51.100.2", "mtu 1380", "198.51.100.7"},
		{Addressing{Addresses: prefixes("203.0.113.5/32"), Gateways: addrs("192.0.2.1")}, // as Google's DHCP has it: beyond the network
			"203.0.113.5/32", "default via 192.0.2.1", "", "198.51.100.8"},
		{Addressing{}, "", "", "", "inet"},
	} {
		var shown, routes string
		err := inNamespace(c.far, func() error { return Address(nic, step.a) })
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		shown = run(t, "nsenter", "--net="+c.far, "ip", "addr", "show", nic)
		routes = run(t, "nsenter", "--net="+c.far, "ip", "route")
		for _, want := range append(strings.Fields(step.have), step.others) {
			if !strings.Contains(shown, want) {
				t.Errorf("step %d: no %s in %s", i, want, shown)
			}
		}
		if strings.Contains(shown, step.absent) || !strings.Contains(routes, step.routes) {
			t.Errorf("step %d: %s\n%s", i, shown, routes)
		}
	}
	if err := inNamespace(c.far, func() error { return Address("02:00:00:00:00:99", Addressing{}) }); err == nil {
		t.Error("a NIC that is not there got addresses")
	}
}

func prefixes(list ...string) (all []netip.Prefix) {
	for _, p := range list {
		all = append(all, netip.MustParsePrefix(p))
	}
	return all
}

func addrs(list ...string) (all []netip.Addr) {
	for _, a := range list {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

func TestWaitNICs(t *testing.T) {
	c := newCable(t)
	none := func(nics []string) { t.Errorf("missing %v", nics) }
	if err := WaitNICs(t.Context(), []string{c.nic, c.mac.String(), "lo"}, none); err != nil {
		t.Error(err)
	}
	late := fmt.Sprintf("sp%dl", os.Getpid())
	go func() {
		time.Sleep(100 * time.Millisecond)
		run(t, "ip", "link", "set", c.nic, "down")
		run(t, "ip", "link", "set", c.nic, "name", late)
	}()
	if err := WaitNICs(t.Context(), []string{late}, none); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("enough"))
	defer cancel()
	if err := WaitNICs(ctx, []string{"nothing0"}, none); err == nil || err.Error() != "enough" {
		t.Errorf("%v", err)
	}
}

// testLessee is the child: it says who it is and what it may do, in one line.
func testLessee() int {
	if err := Confine(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status, _ := os.ReadFile("/proc/self/status")
	_, err := unix.Getsockname(3)
	fmt.Fprintf(os.NewFile(4, "answers"), "%s fork: %v, socket: %v\n", strings.ReplaceAll(string(status), "\n", " "),
		forbidden["fork"](), err)
	syscall.Pause()
	return 0
}

// TestLessee: a lessee has a user of its own, who is not the worker's, and no more system calls than a worker.
func TestLessee(t *testing.T) {
	c := newCable(t)
	ctx, stop := context.WithCancel(t.Context())
	var line string
	err := Lessee{NIC: c.nic, Args: []string{"test", "lessee"}}.Run(ctx, func(l []byte) {
		line = string(l)
		stop()
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t65533\t65533\t65533\t65533 ", "Gid:\t65533\t", "CapEff:\t0000000000000000 ", "NoNewPrivs:\t1 ", "Seccomp:\t2 ",
		"fork: operation not permitted", "socket: <nil>"} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in %q", want, line)
		}
	}
}

func TestIsMAC(t *testing.T) {
	for nic, want := range map[string]bool{"52:54:00:12:34:56": true, "52:54:00:AB:cd:56": true, "eth0": false, "": false,
		"52-54-00-12-34-56": false, "5254.0012.3456": false, "52:54:00:12:34:56:78:9a": false} {
		if IsMAC(nic) != want {
			t.Errorf("%q", nic)
		}
	}
}
