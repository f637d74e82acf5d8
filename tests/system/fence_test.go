package system

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// TestNoPresence: the kernel has no address on the VNet's NIC, nothing answers there on any port of any address of the
// appliance, and what passes the wire is ARP and ND, DNS, and the flows that rules allow.
func TestNoPresence(t *testing.T) {
	t.Parallel()
	b := start(t, settings{})
	capture := b.Capture(b.VNet.Namespace, "eth0")
	dns := b.DNS(b.VNet.Namespace, map[string]lab.Record{
		"db.corp.example.":     {Addrs: []netip.Addr{lab.TargetAddr4}},
		"hidden.corp.example.": {Addrs: []netip.Addr{lab.TargetAddr4}},
	})
	for _, target := range []string{"db-1", "db-6", "named"} {
		if r := b.inClient(b.home, "", "ssh", append(b.sshOptions("quic"), "root@"+target, "true")...); r.exit != 0 {
			t.Fatalf("ssh %s: %v\n%s", target, r, b.daemon.Output())
		}
	}
	asked := len(dns.Queries())

	// What rules deny causes no query and no packet.
	for _, target := range []string{"hidden", "unheard-of"} {
		if r := b.client("proxy", target); r.exit != 11 || !strings.Contains(r.stderr, "no target") {
			t.Errorf("proxy %s: %v", target, r)
		}
	}
	if q := dns.Queries(); len(q) != asked {
		t.Errorf("a denied request caused DNS queries: %v", q[asked:])
	}
	own := []netip.Addr{netip.MustParseAddr("10.99.0.4"), netip.MustParseAddr("fd99::4")}
	seen := map[netip.AddrPort]int{} // what should have passed
	for _, p := range capture.Stop() {
		if p.Out {
			continue // the target's own
		}
		if !slices.Contains(own, p.From.Addr()) && p.EtherType != lab.EtherTypeARP && p.Protocol != lab.ProtocolICMPv6 {
			t.Errorf("a packet of nobody's: %v", p)
		}
		switch {
		case p.EtherType == lab.EtherTypeARP, p.Protocol == lab.ProtocolICMPv6:
		case p.Protocol == lab.ProtocolUDP && p.To == dns.Addr,
			p.Protocol == lab.ProtocolTCP && p.To.Port() == 22 && (p.To.Addr() == lab.TargetAddr4 || p.To.Addr() == lab.TargetAddr6):
			seen[p.To]++
		default:
			t.Errorf("a packet that no rule allows: %v", p)
		}
	}
	if len(seen) != 3 {
		t.Errorf("the capture has missed what rules do allow: %v", seen)
	}

	mac := b.kernelSees(t)
	addrs := slices.Concat(own, []netip.Addr{linkLocal(mac)}, b.kernelAddresses())
	if !slices.Contains(addrs, lab.ApplianceAddr4) || !slices.Contains(addrs, lab.ApplianceAddr6) || len(addrs) < 8 {
		t.Fatalf("these cannot be all of the appliance's addresses: %v", addrs)
	}
	answers := b.Scan(lab.Scan{From: b.VNet.Namespace, NIC: "eth0", MAC: mac, Addrs: addrs,
		Watch: []lab.Watch{{Namespace: b.Router, NIC: "appliance0"}}})
	for at, answer := range answers {
		t.Errorf("%v is %s to a neighbour in the VNet", at, answer)
	}
}

// kernelAddresses are all that the appliance's machine has on its other NICs, loopback and link-local ones too.
func (b *bastion) kernelAddresses() (addrs []netip.Addr) {
	b.t.Helper()
	var links []struct {
		Info []struct {
			Local netip.Addr `json:"local"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(b.Appliance.Run("ip", "-j", "addr")), &links); err != nil {
		b.t.Fatalf("ip -j addr: %v", err)
	}
	for _, l := range links {
		for _, a := range l.Info {
			addrs = append(addrs, a.Local)
		}
	}
	return addrs
}

// linkLocal is the IPv6 address that a NIC would give itself by its MAC.
func linkLocal(mac []byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]})
}

// kernelSees checks that the VNet's NIC has no kernel address, in the namespace that the parent gave it, and returns
// its MAC.
func (b *bastion) kernelSees(t *testing.T) (mac []byte) {
	t.Helper()
	out := b.Appliance.Run("nsenter", "--net="+b.run+"/netns/hub", "ip", "-j", "addr")
	var links []struct {
		Name    string `json:"ifname"`
		Address string `json:"address"`
		Info    []struct {
			Local string `json:"local"`
		} `json:"addr_info"`
	}
	if err := json.Unmarshal([]byte(out), &links); err != nil {
		t.Fatalf("ip -j addr: %v\n%s", err, out)
	}
	for _, l := range links {
		for _, a := range l.Info {
			t.Errorf("the kernel has address %s on %s", a.Local, l.Name)
		}
		if l.Name == b.VNet.Interface {
			var m [6]byte
			if _, err := fmt.Sscanf(l.Address, "%02x:%02x:%02x:%02x:%02x:%02x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]); err != nil {
				t.Fatal(err)
			}
			mac = m[:]
		}
	}
	if mac == nil {
		t.Fatalf("the VNet's NIC is not in its namespace: %s", out)
	}
	if out := b.Appliance.Run("ip", "-j", "link"); strings.Contains(out, `"`+b.VNet.Interface+`"`) {
		t.Error("the VNet's NIC is still in the host's namespace")
	}
	return mac
}

// TestBlocked: where UDP is dropped without a word HTTPS takes over, where TCP is, QUIC does, and where both are the
// person hears what was tried.
func TestBlocked(t *testing.T) {
	t.Parallel()
	b := start(t, settings{})
	timed := func() (run, time.Duration) {
		begin := time.Now()
		return b.client("ls", "--json"), time.Since(begin)
	}
	free, usual := timed()
	if free.exit != 0 {
		t.Fatalf("ls: %v", free)
	}
	b.Block("udp", 443)
	r, took := timed()
	if r.exit != 0 || took > usual+400*time.Millisecond {
		t.Errorf("without UDP ls took %v, with it %v: %v", took, usual, r)
	}
	t.Logf("ls took %v, without UDP %v", usual, took)
	b.enrol("ann", filepath.Join(b.Dir, "home-without-udp"))
	b.Unblock("udp", 443)
	b.Block("tcp", 443)
	if r, took = timed(); r.exit != 0 {
		t.Errorf("without TCP: %v", r)
	}
	t.Logf("without TCP %v", took)
	b.enrol("ann", filepath.Join(b.Dir, "home-without-tcp"))
	b.Block("udp", 443)
	begin := time.Now()
	r = b.client("ls")
	b.wrong(mistake{"20 no path", nil, 14, says("10.77.2.2:443 was not reached", "quic to 10.77.2.2:443: no answer after {took}", "https to 10.77.2.2:443: no answer after {took}",
		"hint: check the name and this network; a firewall may block UDP and TCP to the appliance's port")}, r)
	t.Logf("without both, after %v", time.Since(begin))
}

// TestWorker: the worker has no capability; killed, it is back within a second.
func TestWorker(t *testing.T) {
	b := start(t, settings{})
	worker := b.worker()
	status := readFile(t, fmt.Sprintf("/proc/%d/status", worker))
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		if !strings.Contains(status, set+":\t0000000000000000\n") {
			t.Errorf("the worker has capabilities in %s:\n%s", set, status)
		}
	}
	if !strings.Contains(status, "NoNewPrivs:\t1\n") || strings.Contains(status, "Uid:\t0\t") {
		t.Errorf("the worker may gain privileges, or is root:\n%s", status)
	}
	kill(t, worker)
	begin := time.Now()
	b.eventually(5*time.Second, "the appliance serves again", func() error {
		if r := b.client("--transport", "https", "ls"); r.exit != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the appliance served again after %v", took)
	} else {
		t.Logf("serving again after %v", took)
	}
	if again := b.worker(); again == worker {
		t.Error("the worker was not killed")
	}
	if r := b.inClient(b.home, "", "ssh", append(b.sshOptions("quic"), "root@db-1", "true")...); r.exit != 0 {
		t.Errorf("ssh after the worker's death: %v", r)
	}
}
