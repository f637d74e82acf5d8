package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// attach replaces the configuration's VNets; it is called by settings.prepare.
func (b *bastion) attach(vnets string) {
	b.t.Helper()
	b.write("sallyport.yaml", fmt.Sprintf(`
name: lab
listen: {address: ":443"}
tls: {self_signed: true}
state: %s
access: access.yaml
drain: {grace: 2s}
metrics: {listen: "127.0.0.1:9090"}
vnets:
%s`, filepath.Join(b.Dir, "state"), vnets))
}

// ssh runs a command on a target and wants it to print something.
func (b *bastion) ssh(transport, target, command, want string) error {
	r := b.inClient(b.home, "", "ssh", append(b.sshOptions(transport), "root@"+target, command)...)
	if r.exit != 0 || strings.TrimSpace(r.stdout) != want {
		return fmt.Errorf("ssh %s over %s: %v\nwant %q", target, transport, r, want)
	}
	return nil
}

func (b *bastion) mustSSH(command, want string) {
	b.t.Helper()
	for _, transport := range transports {
		if err := b.ssh(transport, "db-1", command, want); err != nil {
			b.t.Fatalf("%v\n%s", err, b.daemon.Output())
		}
	}
}

// from is the address that the target sees.
const from = "set -- $SSH_CONNECTION; echo $1"

// tunnelled attaches the VNet through a tunnel, whose outside goes over the public NIC.
func (b *bastion) tunnelled() {
	b.t.Helper()
	peer := b.WireGuardPeer(b.VNet.Namespace, lab.WireGuardOptions{
		Other: []netip.Prefix{netip.MustParsePrefix("10.200.0.1/32"), netip.MustParsePrefix("fd20::1/128")}})
	b.write("wg.key", peer.OtherKey+"\n")
	b.write("wg.psk", peer.Preshared+"\n")
	b.attach(fmt.Sprintf(`
  hub:
    link:
      wireguard:
        private_key_file: wg.key
        listen_port: 500
        peers: [{public_key: %q, preshared_key_file: wg.psk, endpoint: %q, allowed: [10.99.0.0/16, "fd99::/64"], keepalive: 5s}]
    addresses: [10.200.0.1/32, "fd20::1/128"]
    prefixes: [10.99.0.0/16, "fd99::/64"]
`, peer.PublicKey, peer.Addr))
}

// TestWireGuard reaches a VNet through a tunnel.
func TestWireGuard(t *testing.T) {
	t.Parallel()
	b := start(t, settings{prepare: (*bastion).tunnelled})
	b.mustSSH(from, "10.200.0.1")
	b.copies(64<<20, "db-1", "db-6")
	if r := b.client("proxy", "closed"); r.exit != 12 || !strings.Contains(r.stderr, "nothing listens") {
		t.Errorf("a port where nothing listens: %v", r)
	}
}

// bridged puts a TAP, as soon as the daemon has made it, on a bridge with a VNet's cable.
func (b *bastion) bridged(tap, cable string) {
	b.t.Helper()
	bridge := "br" + tap
	b.Appliance.Run("ip", "link", "add", bridge, "type", "bridge")
	b.Appliance.Run("ip", "link", "set", cable, "master", bridge)
	b.Appliance.Run("ip", "link", "set", bridge, "up")
	b.plugged(tap, bridge)
}

// plugged puts a TAP on a bridge as soon as the daemon has made it.
func (b *bastion) plugged(tap, bridge string) {
	b.t.Helper()
	lab.Start(b.t, b.Appliance.Command(context.Background(), "sh", "-c",
		"until ip link set "+tap+" master "+bridge+" 2>/dev/null; do sleep 0.05; done"))
}

// TestTap reaches a VNet by a TAP on a bridge, with an address by DHCP.
func TestTap(t *testing.T) {
	t.Parallel()
	b := start(t, settings{prepare: func(b *bastion) {
		b.bridged("t0", b.VNet.Interface)
		b.DHCP(b.VNet.Namespace, lab.DHCPLease{Address: netip.MustParsePrefix("10.99.0.50/16"), Length: time.Hour, DNS: []netip.Addr{lab.TargetAddr4}})
		b.attach("  hub: {link: {tap: t0}, addresses: dhcp, prefixes: [10.99.0.0/16]}\n")
	}})
	b.DNS(b.VNet.Namespace, map[string]lab.Record{"db.corp.example.": {Addrs: []netip.Addr{lab.TargetAddr4}}})
	b.mustSSH(from, "10.99.0.50")
	if err := b.ssh("quic", "named", "echo by the DNS of the lease", "by the DNS of the lease"); err != nil {
		t.Errorf("%v\n%s", err, b.daemon.Output())
	}
	b.copies(64<<20, "db-1")
}

// TestQueues: a link whose packets come by several sockets carries files of several connections at once.
func TestQueues(t *testing.T) {
	b := start(t, settings{prepare: func(b *bastion) {
		b.attach(fmt.Sprintf("  hub: {link: {packet: %s, queues: 4}, addresses: [10.99.0.4/16], prefixes: [10.99.0.0/16]}\n", b.VNet.Interface))
	}})
	b.mustSSH(from, "10.99.0.4")
	source := filepath.Join(b.Dir, "source")
	sum := randomFile(t, source, 64<<20)
	var wg sync.WaitGroup
	for i := range 4 {
		remote, back := filepath.Join(b.Dir, fmt.Sprint("remote", i)), filepath.Join(b.Dir, fmt.Sprint("back", i))
		wg.Go(func() {
			options := append(b.sshOptions(transports[i%2]), "-q")
			for _, way := range [][]string{{source, "root@db-1:" + remote}, {"root@db-1:" + remote, back}} {
				if r := b.inClient(b.home, "", "scp", append(slices.Clone(options), way...)...); r.exit != 0 {
					t.Errorf("scp %q: %v", way, r)
					return
				}
			}
			if fileSum(t, back) != sum {
				t.Errorf("what came back to %s differs", back)
			}
		})
	}
	wg.Wait()
}

// TestOverlap: two VNets with the same addresses at once, and each target is its own machine.
func TestOverlap(t *testing.T) {
	t.Parallel()
	var second *lab.SSHD
	b := start(t, settings{
		access: `
targets:
  - {name: first, vnet: hub, address: 10.99.0.10, protocols: {ssh: 22}}
  - {name: second, vnet: lab, address: 10.99.0.10, protocols: {ssh: 22}}
rules:
  - {name: all, who: [ann], targets: ["*"], protocols: [ssh]}
`,
		prepare: func(b *bastion) {
			other := b.AddVNet("other", netip.PrefixFrom(lab.TargetAddr4, 16))
			second = b.SSHD(other.Namespace, lab.SSHDOptions{Config: []string{"SetEnv MACHINE=two"}})
			b.sshd.Process.Stop()
			b.sshd = b.SSHD(b.VNet.Namespace, lab.SSHDOptions{Config: []string{"SetEnv MACHINE=one"}})
			b.bridged("t0", other.Interface)
			b.attach(fmt.Sprintf(`
  hub: {link: {packet: %s}, addresses: [10.99.0.4/16], prefixes: [10.99.0.0/16]}
  lab: {link: {tap: t0}, addresses: [10.99.0.4/16], prefixes: [10.99.0.0/16]}
`, b.VNet.Interface))
		}})
	known := filepath.Join(b.Dir, "known_hosts")
	if err := os.WriteFile(known, []byte("first "+b.sshd.HostKey+"\nsecond "+second.HostKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for target, c := range map[string]struct{ machine, key string }{"first": {"one", b.sshd.KeyFile}, "second": {"two", second.KeyFile}} {
			for _, transport := range transports {
				args := append([]string{"-F", "none", "-i", c.key, "-o", "UserKnownHostsFile=" + known}, b.sshOptions(transport)[2:]...)
				b.eventually(10*time.Second, target+" answers", func() error { // the TAP comes late to its bridge
					r := b.inClient(b.home, "", "ssh", append(args, "root@"+target, "echo $MACHINE; sleep 0.2")...)
					if r.stdout != c.machine+"\n" {
						return fmt.Errorf("%v", r)
					}
					return nil
				})
			}
		}
	}
}

// held is an ssh that lasts until its flow ends.
func (b *bastion) held(transport string) *lab.Process {
	b.t.Helper()
	return b.heldTo(transport, "db-1")
}

// heldTo is held to a target of another name.
func (b *bastion) heldTo(transport, target string) *lab.Process {
	b.t.Helper()
	cmd := b.Client.Command(b.t.Context(), "ssh", append(b.sshOptions(transport), "-o", "HostKeyAlias=db-1", "root@"+target, "echo held; sleep 300")...)
	cmd.Env = b.environ(b.home)
	p := lab.Start(b.t, cmd)
	b.eventually(10*time.Second, "the flow is there", func() error {
		if !strings.Contains(p.Output(), "held") {
			return errors.New(p.Output())
		}
		return nil
	})
	return p
}

// ends waits until a held flow has ended, and says why.
func (b *bastion) ends(p *lab.Process, limit time.Duration, why string) {
	b.t.Helper()
	select {
	case <-p.Done():
		if !strings.Contains(p.Output(), why) {
			b.t.Errorf("the flow ended with %q, want %q", p.Output(), why)
		}
		b.t.Logf("%s", p.Output())
	case <-time.After(limit):
		b.t.Errorf("the flow goes on: %s\n%s", p.Output(), b.daemon.Output())
	}
}

// refused wants a flow not to be possible, for a reason.
func (b *bastion) refused(why string) error {
	r := b.client("proxy", "db-1")
	if r.exit != 12 || !strings.Contains(r.stderr, why) {
		return fmt.Errorf("want %q, got %v", why, r)
	}
	return nil
}

// metrics are what Prometheus would read.
func (b *bastion) metrics() string {
	b.t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: b.Appliance.DialContext, DisableKeepAlives: true}}
	r, err := client.Get("http://127.0.0.1:9090/metrics")
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// TestDHCP: the appliance's address is what the server says, now, later, not any more, and again.
func TestDHCP(t *testing.T) {
	t.Parallel()
	lease := lab.DHCPLease{Address: netip.MustParsePrefix("10.99.0.50/16"), Length: 6 * time.Second, MTU: 1400}
	var server *lab.DHCP
	b := start(t, settings{prepare: func(b *bastion) {
		server = b.DHCP(b.VNet.Namespace, lease)
		b.attach(fmt.Sprintf("  hub: {link: {packet: %s}, addresses: dhcp, prefixes: [10.99.0.0/16]}\n", b.VNet.Interface))
	}})
	b.mustSSH(from, "10.99.0.50")
	long := b.held("quic")

	// A renewed lease disturbs nobody.
	asked := len(server.Asked())
	b.eventually(10*time.Second, "the lease is renewed", func() error {
		if all := server.Asked(); len(all) < asked+2 || !strings.HasPrefix(all[len(all)-1], "REQUEST 10.99.0.50 from 10.99.0.50") {
			return fmt.Errorf("%q", all)
		}
		return nil
	})
	select {
	case <-long.Done():
		t.Fatalf("the flow ended: %s", long.Output())
	default:
	}

	// The server wants us to have another address.
	lease.Address = netip.MustParsePrefix("10.99.0.51/16")
	server.Give(lease)
	b.ends(long, 10*time.Second, "address in the VNet has changed")
	b.eventually(10*time.Second, "the new address", func() error { return b.ssh("https", "db-1", from, "10.99.0.51") })

	// The server falls silent.
	long = b.held("https")
	server.Silence(true)
	b.ends(long, 15*time.Second, "address in the VNet has changed or expired")
	b.eventually(5*time.Second, "flows are refused", func() error { return b.refused("no DHCP server has renewed it") })
	if m := b.metrics(); !strings.Contains(m, "sallyport_vnet_up{vnet=\"hub\"} 0\n") {
		t.Errorf("the metrics do not say that the VNet is down:\n%s", m)
	}

	// And speaks again.
	server.Silence(false)
	b.eventually(60*time.Second, "the address is back", func() error { return b.ssh("quic", "db-1", from, "10.99.0.51") })
}

// TestNoDHCP: an appliance whose DHCP server is not there serves all the same, and takes the address when it comes.
func TestNoDHCP(t *testing.T) {
	t.Parallel()
	b := start(t, settings{prepare: func(b *bastion) {
		b.attach(fmt.Sprintf("  hub: {link: {packet: %s}, addresses: dhcp, prefixes: [10.99.0.0/16]}\n", b.VNet.Interface))
	}})
	if err := b.refused("no address in the VNet yet"); err != nil {
		t.Error(err)
	}
	b.DHCP(b.VNet.Namespace, lab.DHCPLease{Address: netip.MustParsePrefix("10.99.0.50/16"), Length: time.Hour})
	b.eventually(60*time.Second, "the address", func() error { return b.ssh("quic", "db-1", from, "10.99.0.50") })
}

// TestLinkLost: a NIC that is set down stops new flows, one that is removed ends the others too, and the VNet is back
// when the NIC is.
func TestLinkLost(t *testing.T) {
	b := start(t, settings{})
	inside := func(args ...string) string {
		return b.Appliance.Run("nsenter", append([]string{"--net=" + b.run + "/netns/hub", "ip", "link"}, args...)...)
	}
	b.mustSSH("echo before", "before")
	held := map[string]*lab.Process{}
	for _, transport := range transports {
		held[transport] = b.held(transport)
	}
	inside("set", b.VNet.Interface, "down")
	b.eventually(5*time.Second, "flows are refused", func() error { return b.refused("the VNet's link is down: the NIC is set down") })
	inside("set", b.VNet.Interface, "up")
	b.eventually(10*time.Second, "flows are possible", func() error { return b.ssh("quic", "db-1", "echo up", "up") })
	for transport, p := range held {
		select {
		case <-p.Done():
			t.Errorf("over %s: a flow did not outlive its NIC's rest: %s", transport, p.Output())
		default:
		}
	}

	inside("del", b.VNet.Interface)
	for _, p := range held {
		b.ends(p, 5*time.Second, "the VNet's link is down: the NIC is gone")
	}
	if err := b.refused("the VNet's link is down"); err != nil {
		t.Error(err)
	}
	kill(t, b.worker()) // a new one serves without the NIC
	b.eventually(10*time.Second, "another worker says so too", func() error { return b.refused("the VNet's link is down") })
	b.Appliance.Run("ip", "link", "add", b.VNet.Interface, "type", "veth", "peer", "name", "eth0", "netns", b.VNet.Name)
	b.VNet.AddAddress("eth0", netip.PrefixFrom(lab.TargetAddr4, 16))
	b.VNet.Run("ip", "link", "set", "eth0", "up")
	begin := time.Now()
	b.eventually(35*time.Second, "the VNet is back", func() error { return b.ssh("https", "db-1", "echo back", "back") })
	t.Logf("back after %v", time.Since(begin))
	b.kernelSees(t)
	for _, line := range []string{"the VNet's link has ended", "the VNet's link is back"} {
		if !strings.Contains(b.daemon.Output(), line) {
			t.Errorf("the log does not say that %s:\n%s", line, b.daemon.Output())
		}
	}
}

// TestTapLost: a TAP that somebody deletes ends its flows; the daemon makes another, unless its name is taken, and the
// VNet is back when that is on the bridge.
func TestTapLost(t *testing.T) {
	b := start(t, settings{prepare: func(b *bastion) {
		b.bridged("t0", b.VNet.Interface)
		b.attach("  hub: {link: {tap: t0}, addresses: [10.99.0.4/16], prefixes: [10.99.0.0/16]}\n")
	}})
	b.mustSSH("echo before", "before")
	back := func(transport string, limit time.Duration) {
		t.Helper()
		begin := time.Now()
		b.plugged("t0", "brt0")
		b.eventually(limit, "the VNet is back", func() error { return b.ssh(transport, "db-1", "echo back", "back") })
		t.Logf("back after %v", time.Since(begin))
	}

	var held []*lab.Process
	for _, transport := range transports {
		held = append(held, b.held(transport))
	}
	b.Appliance.Run("ip", "link", "del", "t0")
	for _, p := range held {
		b.ends(p, 5*time.Second, "the VNet's link is down: the NIC is gone")
	}
	back("quic", 10*time.Second)

	// Something else has the name: neither this worker nor the next has the link, until the name is free.
	b.Appliance.Run("sh", "-c", "ip link del t0 && ip link add t0 type bridge")
	b.eventually(5*time.Second, "flows are refused", func() error { return b.refused("the VNet's link is down") })
	kill(t, b.worker())
	b.eventually(10*time.Second, "another worker says so too", func() error { return b.refused("the VNet's link is down") })
	b.Appliance.Run("ip", "link", "del", "t0")
	back("https", 35*time.Second)
	for _, line := range []string{"the VNet's link has ended", "the VNet's link is not there", "the VNet's link is back", "make TAP t0"} {
		if !strings.Contains(b.daemon.Output(), line) {
			t.Errorf("the log does not say that %s:\n%s", line, b.daemon.Output())
		}
	}
}
