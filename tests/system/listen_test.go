package system

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// TestListenOnLink: people come in by a userspace stack on the public NIC; the kernel has no address at all.
func TestListenOnLink(t *testing.T) {
	t.Parallel()
	b := start(t, settings{
		listen: `link: {packet: eth0}, addresses: [10.77.2.2/24, "fd77:2::2/64"], gateway: [10.77.2.1, "fd77:2::1"]`,
		extra:  "metrics: {listen: \"127.0.0.1:9090\"}\n",
	})
	for _, vnet := range []string{"listen", "hub"} {
		out := b.Appliance.Run("nsenter", "--net="+b.run+"/netns/"+vnet, "ip", "-j", "addr", "show", "up")
		if strings.Contains(out, `"local"`) {
			t.Errorf("the kernel has an address on the NIC of %s: %s", vnet, out)
		}
	}
	b.comesIn(t)
	// Nothing but the one port answers, on any address.
	var mac [6]byte
	link := strings.Fields(b.Appliance.Run("nsenter", "--net="+b.run+"/netns/listen", "ip", "-br", "link", "show", "eth0"))
	if _, err := fmt.Sscanf(link[2], "%02x:%02x:%02x:%02x:%02x:%02x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]); err != nil {
		t.Fatal(err)
	}
	scan := lab.Scan{From: b.Router, NIC: "appliance0", MAC: mac[:],
		Addrs: []netip.Addr{lab.ApplianceAddr4, lab.ApplianceAddr6, netip.MustParseAddr("10.99.0.4"), netip.MustParseAddr("127.0.0.1")}}
	for at, answer := range b.Scan(scan) {
		if at.Port() != 443 {
			t.Errorf("%v is %s", at, answer)
		}
	}
	scan.Ports = []uint16{443} // alone, for in the crowd its answer may be lost
	answers := b.Scan(scan)
	for _, open := range []netip.Addr{lab.ApplianceAddr4, lab.ApplianceAddr6} {
		if answers[netip.AddrPortFrom(open, 443)] != lab.Open {
			t.Errorf("%v does not answer on 443: %v", open, answers)
		}
	}
}

// TestListenOnVNet: a machine with one NIC serves people on its VNet's own stack. Here they come from the VNet.
func TestListenOnVNet(t *testing.T) {
	t.Parallel()
	b := start(t, settings{listen: "vnet: hub, port: 443", tls: "self_signed: true "})
	inside := *b.Lab
	inside.Client = b.VNet.Namespace
	b.Lab = &inside
	b.address, b.url = "10.99.0.4:443", "https://10.99.0.4"
	b.enrol("ann", b.home)
	b.comesIn(t)
}

// comesIn checks that both transports work, and bulk both ways.
func (b *bastion) comesIn(t *testing.T) {
	t.Helper()
	const size = 32 << 20
	data := strings.Repeat("0123456789abcdef", size/16)
	for _, transport := range transports {
		begin := time.Now()
		r := b.inClient(b.home, data, "ssh", append(b.sshOptions(transport), "root@db-1", "cat")...)
		if r.exit != 0 || r.stdout != data || r.stderr != "" {
			t.Errorf("over %s: exit %d, %d bytes of %d came back, %s\n%s", transport, r.exit, len(r.stdout), size, r.stderr, b.daemon.Output())
		}
		t.Logf("over %s: 32 MiB there and back in %v", transport, time.Since(begin).Round(time.Millisecond))
	}
}

// TestListenBalanced: people come to the address of a load balancer that passes packets on as they are, here the router. The
// appliance's own address comes by DHCP in clouds; here it stands.
func TestListenBalanced(t *testing.T) {
	const balancer = "203.0.113.7"
	b := start(t, settings{
		listen: `link: {packet: eth0}, addresses: [10.77.2.2/24], gateway: [10.77.2.1], balanced: ` + balancer,
		prepare: func(b *bastion) {
			b.Router.Run("ip", "route", "add", balancer+"/32", "via", lab.ApplianceAddr4.String())
			b.address, b.url = balancer+":443", "https://"+balancer
		},
	})
	b.comesIn(t)
	// By its own address it is reached over HTTPS.
	out, err := b.Router.Command(t.Context(), "curl", "-sSk", "--max-time", "10", "https://"+lab.ApplianceAddr4.String()+"/readyz").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "ready" {
		t.Errorf("readyz by the appliance's own address: %v, %s", err, out)
	}
}
