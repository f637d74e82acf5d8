package system

import (
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// TestFetch: user data comes over a stack on a NIC that the kernel has no address on, from each of the clouds; with the
// lease of a /32 whose gateway lies outside it, as one of them gives.
func TestFetch(t *testing.T) {
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	b := &bastion{Lab: l, t: t, bin: bin}
	const text = "listen: {vnet: hub}\n"
	f := l.Cloud(l.VNet.Namespace, "#cloud-config\nsallyport:\n  "+text)
	lease := lab.DHCPLease{Address: netip.MustParsePrefix("10.99.0.50/16"), Router: lab.TargetAddr4, Length: time.Hour}
	d := l.DHCP(l.VNet.Namespace, lease)
	fetch := func(cloud string) run {
		return b.inAppliance(bin+"/sallyportd", "fetch", "--cloud", cloud, "--interface", l.VNet.Interface, "--run-dir", filepath.Join(l.Dir, "run"))
	}
	for cloud, address := range map[string]string{"azure": "10.99.0.50/16", "aws": "10.99.0.51/16", "gcp": "10.99.0.52/32"} {
		lease.Address = netip.MustParsePrefix(address)
		d.Give(lease)
		begin := time.Now()
		if r := fetch(cloud); r.exit != 0 || r.stdout != "\n\n  "+text {
			t.Errorf("%s: %v", cloud, r)
		}
		t.Logf("%s: %v", cloud, time.Since(begin).Round(time.Millisecond))
		if from, _ := f.Seen(); len(from) == 0 || from[len(from)-1] != lease.Address.Addr() {
			t.Errorf("%s: asked from %v", cloud, from)
		}
		// The NIC is back where it was.
		if out := l.Appliance.Run("ip", "-br", "addr", "show", l.VNet.Interface); strings.Contains(out, "UP ") || strings.Contains(out, "10.99.") {
			t.Errorf("%s: %s", cloud, out)
		}
	}
	f.Give("")
	if r := fetch("azure"); r.exit == 0 || !strings.Contains(r.stderr, "no configuration") {
		t.Errorf("no user data: %v", r)
	}
}

// TestMetadataIsOutOfReach: the appliance itself speaks to the cloud's services over the VNet's own stack, and no flow over
// that same stack does, by address or by name, whatever the prefixes and the rules allow.
func TestMetadataIsOutOfReach(t *testing.T) {
	var f *lab.Cloud
	names := map[string]string{"imds.corp.example": lab.IMDS, "wire.corp.example": lab.WireServer, "other.corp.example": "169.254.7.7"}
	access := "admins: [ann]\naddress_mode: on\ntargets:\n  - {name: web, vnet: hub, address: 10.99.0.10, protocols: {ssh: 80}}\n"
	for name := range names {
		access += fmt.Sprintf("  - {name: %s, vnet: hub, address: %s, protocols: {ssh: 80}}\n", name[:4], name)
	}
	access += "rules:\n  - {name: all, who: [\"*\"], targets: [\"*\"], protocols: [ssh]}\n" +
		"  - {name: all addresses, who: [\"*\"], addresses: [0.0.0.0/0, \"::/0\"], protocols: [ssh], ports: [80]}\n"
	b := start(t, settings{access: access, serve: []string{"--cloud", "azure"}, prepare: func(b *bastion) {
		f = b.Cloud(b.VNet.Namespace, "")
		zone := map[string]lab.Record{}
		for name, a := range names {
			zone[name+"."] = lab.Record{Addrs: []netip.Addr{netip.MustParseAddr(a)}}
		}
		b.DNS(b.VNet.Namespace, zone)
		b.VNet.AddAddress("lo", netip.MustParsePrefix("169.254.7.7/32"))
		b.write("sallyport.yaml", fmt.Sprintf(`
listen: {vnet: hub}
tls: {self_signed: true}
state: %s
access: access.yaml
drain: {grace: 2s}
vnets:
  hub:
    link: {packet: %s}
    addresses: [10.99.0.4/16]
    gateway: [10.99.0.10]
    prefixes: [0.0.0.0/0]
    dns: [10.99.0.10]
`, filepath.Join(b.Dir, "state"), b.VNet.Interface))
		inside := *b.Lab
		inside.Client = b.VNet.Namespace
		b.Lab = &inside
		b.address, b.url = "10.99.0.4:443", "https://10.99.0.4"
	}})
	b.eventually(20*time.Second, "the cloud is told that the machine is ready", func() error {
		if _, reports := f.Seen(); len(reports) != 1 || !strings.Contains(reports[0], "<State>Ready</State>") {
			return fmt.Errorf("%q\n%s", reports, b.daemon.Output())
		}
		return nil
	})
	capture := b.Capture(b.VNet.Namespace, "eth0")
	before, _ := f.Seen()
	if len(before) == 0 || before[0] != netip.MustParseAddr("10.99.0.4") {
		t.Fatalf("the report came from %v", before)
	}
	for _, to := range []string{lab.IMDS + ":80", lab.WireServer + ":80", "169.254.7.7:80", "[::ffff:169.254.169.254]:80", "[64:ff9b::a9fe:a9fe]:80", "imds:80", "wire:80", "othe:80"} {
		r := b.client("proxy", to)
		if r.exit != 11 {
			t.Errorf("a flow to %s: %v", to, r)
		}
		t.Logf("%s: %s", to, strings.Split(r.stderr, "\n")[0])
	}
	if after, _ := f.Seen(); len(after) != len(before) {
		t.Errorf("the services were reached from %v", after[len(before):])
	}
	for _, p := range capture.Stop() {
		if a := p.To.Addr().Unmap(); a.IsLinkLocalUnicast() && a.Is4() || a.String() == lab.WireServer {
			t.Errorf("a packet to %v", p)
		}
	}
	// The same flow to an address that is none of these gets there.
	b.VNet.AddAddress("lo", netip.MustParsePrefix("203.0.113.9/32"))
	l, err := b.VNet.Listen("tcp", "203.0.113.9:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	if r := b.client("proxy", "203.0.113.9:80"); r.exit != 0 || r.stdout != "hello" {
		t.Errorf("an address anywhere: %v\n%s", r, b.daemon.Output())
	}
}
