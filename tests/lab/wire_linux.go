package lab

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"sallyport/tests/chaoslink/wire"
)

// A cable joins two NICs.
type cable struct {
	a    *Namespace
	nicA string
	b    *Namespace
	nicB string
}

// Wire cuts a cable of the lab and joins its ends by a link that can spoil what passes. n and nic name the cable's right
// end on the map, such as Router and client0; Up leads there. That NIC is a new one of the same name, MAC, addresses and
// routes, so that the link is laid before anything in n looks at the NIC itself.
//
//	link := l.Wire(l.Router, "client0", 7)
//	link.Set(wire.Both, wire.Impairment{Delay: 40 * time.Millisecond, Loss: 0.01})
func (l *Lab) Wire(n *Namespace, nic string, seed uint64) *wire.Link {
	l.t.Helper()
	middle := l.cut(n, nic)
	var link *wire.Link
	err := middle.Do(func() (err error) {
		link, err = wire.Open("left", "right", wire.Options{Seed: seed, Log: l.t.Logf})
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { link.Close() })
	return link
}

// cut cuts a cable at its right end and returns the namespace that both halves lead to, as its NICs left and right.
func (l *Lab) cut(n *Namespace, nic string) *Namespace {
	l.t.Helper()
	c := l.cable(n, nic)
	middle := l.namespace(fmt.Sprintf("wire-%s-%s", strings.TrimPrefix(n.Name, l.id+"-"), nic))
	for _, scope := range []string{"all", "default"} { // the middle has no word of its own to say
		middle.sysctl("net/ipv6/conf/"+scope+"/disable_ipv6", "1")
	}
	mac, prefixes, routes := n.NIC(nic).HardwareAddr, n.prefixes(nic), n.routes(nic)
	n.ip(fmt.Sprintf("link set dev %s netns %s name left", nic, middle.Name),
		fmt.Sprintf("link add %s address %v type veth peer name right netns %s", nic, mac, middle.Name),
		"link set "+nic+" up")
	middle.ip("link set left up", "link set right up")
	n.address(nic, prefixes...)
	n.ip(routes...)
	for _, end := range []struct {
		n   *Namespace
		nic string
	}{{c.a, c.nicA}, {n, nic}} {
		if err := end.n.Do(func() error { return wire.Plain(end.nic) }); err != nil {
			l.t.Fatal(err)
		}
	}
	return middle
}

func (l *Lab) cable(n *Namespace, nic string) cable {
	l.t.Helper()
	for _, c := range l.cables {
		if c.b == n && c.nicB == nic {
			return c
		}
	}
	l.t.Fatalf("no cable ends at %s of %s", nic, n.Name)
	return cable{}
}

// prefixes are a NIC's addresses as they were given, without those that the kernel makes up.
func (n *Namespace) prefixes(nic string) []string {
	n.lab.t.Helper()
	var all []string
	err := n.Do(func() error {
		i, err := net.InterfaceByName(nic)
		if err != nil {
			return err
		}
		addrs, err := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLinkLocalUnicast() {
				all = append(all, p.String())
			}
		}
		return err
	})
	if err != nil {
		n.lab.t.Fatal(err)
	}
	return all
}

// routes are the commands that restore a NIC's routes, without those that its addresses bring.
func (n *Namespace) routes(nic string) []string {
	n.lab.t.Helper()
	var all []string
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(n.Run("ip", family, "route", "show", "dev", nic)) {
			if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "proto kernel") {
				all = append(all, fmt.Sprintf("route add %s dev %s", line, nic))
			}
		}
	}
	return all
}
