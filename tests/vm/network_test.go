package vm

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// TestNetwork: a flow to a target behind the VNet's gateway, whose address comes by DHCP, goes on when the clock is set by five
// minutes, each cable is pulled and plugged, the gateways change their MAC addresses, and the lease is renewed.
func TestNetwork(t *testing.T) {
	t.Parallel()
	clock := time.Now().Add(-5 * time.Minute) // that the machine starts with
	var server *lab.DHCP
	m := start(t, options{
		qemu: []string{"-rtc", "base=" + clock.UTC().Format("2006-01-02T15:04:05")},
		config: strings.Replace(document(forms[0]), "addresses: [10.99.0.4/16]\n    prefixes: [10.99.0.0/16]", "addresses: dhcp\n    prefixes: [10.98.0.0/15]", 1) +
			"time: {servers: [10.77.2.1]}\n",
		access: strings.ReplaceAll(access, "10.99.0.10", "10.98.0.10"),
		prepare: func(m *machine) {
			m.VNet.AddAddress("lo", netip.MustParsePrefix("10.98.0.10/32"))
			m.VNet.AddAddress("eth0", netip.MustParsePrefix("10.99.0.1/16"))
			server = m.DHCP(m.VNet.Namespace, lab.DHCPLease{Address: netip.MustParsePrefix("10.99.0.4/16"), Router: netip.MustParseAddr("10.99.0.1"), Length: 20 * time.Second})
		},
	})
	f := m.flows(1)[0]
	asked := len(server.Asked())
	say := func() {
		t.Helper()
		if err := f.say(); err != nil {
			t.Fatal(err)
		}
	}

	m.console(1, "the time servers are of no use now")
	m.NTP(m.Router, netip.MustParseAddr("10.77.2.1"), 0)
	said := m.console(1, `the clock was set offset=(\S+)`)[1]
	if by, err := time.ParseDuration(said); err != nil || (by-m.booted.Sub(clock)).Abs() > time.Minute {
		t.Errorf("the clock was set by %s: %v", said, err)
	}
	f.echo()
	m.comesIn()

	for _, nic := range []string{"vnet", "public"} {
		m.command("set_link", map[string]any{"name": nic, "up": false})
		say()
		f.SetReadDeadline(time.Now().Add(3 * time.Second))
		if n, err := f.Read([]byte{0}); n > 0 || err == nil {
			t.Fatalf("the flow echoes without the %s NIC", nic)
		}
		m.command("set_link", map[string]any{"name": nic, "up": true})
		f.goesOn(nic + " is up again")
	}
	m.comesIn()

	m.VNet.Run("ip", "link", "set", "eth0", "address", "52:54:00:99:00:01")
	say()
	f.goesOn("the VNet's gateway has another MAC address")
	m.Router.Run("ip", "link", "set", "appliance0", "address", "52:54:00:77:02:01")
	say()
	f.goesOn("the public gateway has another MAC address")
	m.comesIn()

	m.eventually("the lease is renewed", func() error {
		if since := server.Asked()[asked:]; !slices.Contains(since, "REQUEST 10.99.0.4 from 10.99.0.4") {
			return fmt.Errorf("the server was asked %q", since)
		}
		return nil
	})
	f.echo()
	m.comesIn()
}
