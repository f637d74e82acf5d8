package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo serves TCP in a namespace: what comes in goes out again.
func echo(t *testing.T, n *Namespace, address string) net.Listener {
	t.Helper()
	l, err := n.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				defer context.AfterFunc(t.Context(), func() { c.Close() })() // the caller's end may have been lost
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l
}

// ask sends a word to an echo server and wants it back.
func ask(t *testing.T, n *Namespace, address string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	c, err := n.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.WriteString(c, "word"); err != nil {
		return err
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "word" {
		return fmt.Errorf("echo said %q, %w", got, err)
	}
	return nil
}

func TestRoads(t *testing.T) {
	l := New(t)
	echo(t, l.Appliance, ":443")
	for _, a := range []netip.Addr{ApplianceAddr4, ApplianceAddr6} {
		if err := ask(t, l.Client, netip.AddrPortFrom(a, 443).String()); err != nil {
			t.Errorf("client to appliance: %v", err)
		}
	}
	echo(t, l.VNet.Namespace, ":22")
	for _, a := range []netip.Addr{TargetAddr4, TargetAddr6} {
		if err := ask(t, l.Client, netip.AddrPortFrom(a, 22).String()); err == nil {
			t.Errorf("the client reaches %v in the VNet without the appliance", a)
		}
	}
	if got := l.Appliance.Addrs("vnet0"); len(got) != 0 {
		t.Errorf("the appliance's VNet NIC has %v", got)
	}
}

func TestOverlappingVNets(t *testing.T) {
	l := New(t)
	other := l.AddVNet("other", netip.PrefixFrom(TargetAddr4, 16))
	if other.Interface != "vnet1" || !slices.Contains(other.Addrs("eth0"), TargetAddr4) {
		t.Errorf("other VNet: NIC %s with %v", other.Interface, other.Addrs("eth0"))
	}
	echo(t, other.Namespace, ":22")
	l.Appliance.AddAddress(other.Interface, netip.MustParsePrefix("10.99.0.1/16"))
	if err := ask(t, l.Appliance, "10.99.0.10:22"); err != nil {
		t.Error(err)
	}
}

func TestSSHD(t *testing.T) {
	l := New(t)
	l.Appliance.AddAddress("vnet0", netip.MustParsePrefix("10.99.0.1/16"))
	s := l.SSHD(l.VNet.Namespace, SSHDOptions{Port: 2222})
	cmd := l.Appliance.Command(t.Context(), "ssh", "-F", "none", "-i", s.KeyFile, "-p", "2222",
		"-o", "UserKnownHostsFile="+s.KnownHosts(l, "[10.99.0.10]:2222"), "-o", "StrictHostKeyChecking=yes",
		"-o", "BatchMode=yes", s.User+"@10.99.0.10", "echo out; exit 7")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 || string(out) != "out\n" {
		t.Errorf("ssh: %q, %v; want out and status 7", out, err)
	}
	if s.Addr != netip.AddrPortFrom(TargetAddr4, 2222) {
		t.Errorf("address %v", s.Addr)
	}
}

func TestDNS(t *testing.T) {
	l := New(t)
	l.Appliance.AddAddress("vnet0", netip.MustParsePrefix("10.99.0.1/16"))
	other := netip.MustParseAddr("10.99.0.11")
	d := l.DNS(l.VNet.Namespace, map[string]Record{
		"db-1.lab":  {Addrs: []netip.Addr{TargetAddr4, TargetAddr6}},
		"alias.lab": {CNAME: "db-1.lab"},
		"big.lab":   {Addrs: []netip.Addr{TargetAddr4}, Truncate: true},
		"turns.lab": {Turns: [][]netip.Addr{{TargetAddr4}, {other}}},
		"slow.lab":  {Addrs: []netip.Addr{TargetAddr4}, Delay: 200 * time.Millisecond},
		"bad.lab":   {Rcode: dns.RcodeServerFailure},
	})
	exchange := func(network, name string, kind uint16) (*dns.Msg, time.Duration) {
		t.Helper()
		c, err := l.Appliance.DialContext(t.Context(), network, d.Addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		m, rtt, err := new(dns.Client).ExchangeWithConn(new(dns.Msg).SetQuestion(name, kind), &dns.Conn{Conn: c})
		if err != nil {
			t.Fatalf("%s %s: %v", network, name, err)
		}
		return m, rtt
	}
	a := func(network, name string) string {
		t.Helper()
		m, _ := exchange(network, name, dns.TypeA)
		var got []string
		for _, rr := range m.Answer {
			got = append(got, strings.Fields(rr.String())[4])
		}
		return fmt.Sprintf("%s %t %v", dns.RcodeToString[m.Rcode], m.Truncated, got)
	}
	for _, tt := range []struct{ network, name, want string }{
		{"udp", "DB-1.lab.", "NOERROR false [10.99.0.10]"},
		{"tcp", "db-1.lab.", "NOERROR false [10.99.0.10]"},
		{"udp", "alias.lab.", "NOERROR false [db-1.lab. 10.99.0.10]"},
		{"udp", "big.lab.", "NOERROR true []"},
		{"tcp", "big.lab.", "NOERROR false [10.99.0.10]"},
		{"udp", "turns.lab.", "NOERROR false [10.99.0.10]"},
		{"udp", "turns.lab.", "NOERROR false [10.99.0.11]"},
		{"udp", "turns.lab.", "NOERROR false [10.99.0.10]"},
		{"udp", "bad.lab.", "SERVFAIL false []"},
		{"udp", "none.lab.", "NXDOMAIN false []"},
	} {
		if got := a(tt.network, tt.name); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.network, tt.name, got, tt.want)
		}
	}
	if m, _ := exchange("udp", "db-1.lab.", dns.TypeAAAA); len(m.Answer) != 1 || m.Answer[0].(*dns.AAAA).AAAA.String() != "fd99::10" {
		t.Errorf("AAAA: %v", m.Answer)
	}
	if _, rtt := exchange("udp", "slow.lab.", dns.TypeA); rtt < 200*time.Millisecond {
		t.Errorf("slow.lab answered after %v", rtt)
	}
	qs := d.Queries()
	if len(qs) != 12 || qs[0].Name != "db-1.lab." || qs[1].Network != "tcp" || qs[0].From.Addr() != netip.MustParseAddr("10.99.0.1") {
		t.Errorf("queries: %v", qs)
	}
}

func TestCapture(t *testing.T) {
	l := New(t)
	echo(t, l.Appliance, ":443")
	c := l.Capture(l.Appliance, "eth0")
	for _, a := range []netip.Addr{ApplianceAddr4, ApplianceAddr6} {
		if err := ask(t, l.Client, netip.AddrPortFrom(a, 443).String()); err != nil {
			t.Fatal(err)
		}
	}
	packets := c.Stop()
	has := func(out bool, from, to netip.Addr, flags TCPFlags) bool {
		return slices.ContainsFunc(packets, func(p Packet) bool {
			return p.Out == out && p.From.Addr() == from && p.To.Addr() == to && p.Protocol == ProtocolTCP && p.Flags.Has(flags) &&
				(p.To.Port() == 443 || p.From.Port() == 443)
		})
	}
	for _, pair := range [][2]netip.Addr{{ClientAddr4, ApplianceAddr4}, {ClientAddr6, ApplianceAddr6}} {
		if !has(false, pair[0], pair[1], SYN) || !has(true, pair[1], pair[0], SYN|ACK) || !has(false, pair[0], pair[1], FIN) {
			t.Errorf("handshake of %v not seen in %v", pair, packets)
		}
	}
	if !slices.ContainsFunc(packets, func(p Packet) bool { return p.EtherType == EtherTypeARP && p.To.Addr() == ApplianceAddr4 }) {
		t.Errorf("no ARP request in %v", packets)
	}
	path := filepath.Join(t.TempDir(), "x.pcap")
	if err := c.WritePCAP(path); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tcpdump", "-nr", path, "tcp[tcpflags] & tcp-syn != 0").Output()
	if err != nil || strings.Count(string(out), "10.77.2.2.443") != 2 {
		t.Errorf("tcpdump: %v\n%s", err, out)
	}
}

func TestScan(t *testing.T) {
	l := New(t)
	l.Appliance.AddAddress("vnet0", netip.MustParsePrefix("10.99.0.1/16"))
	l.Appliance.AddAddress("vnet0", netip.MustParsePrefix("fd99::1/64"))
	echo(t, l.Appliance, ":4433")
	begin := time.Now()
	got := l.Scan(Scan{
		From: l.VNet.Namespace, NIC: "eth0", MAC: l.Appliance.NIC("vnet0").HardwareAddr,
		Addrs: []netip.Addr{netip.MustParseAddr("10.99.0.1"), netip.MustParseAddr("fd99::1")},
	})
	took := time.Since(begin)
	open := map[netip.AddrPort]bool{}
	for a, answer := range got {
		if answer == Open {
			open[a] = true
		}
	}
	if len(got) != 2*65535 || len(open) != 2 || !open[netip.MustParseAddrPort("10.99.0.1:4433")] || !open[netip.MustParseAddrPort("[fd99::1]:4433")] {
		t.Errorf("%d answers, open: %v", len(got), open)
	}
	if took > 20*time.Second {
		t.Errorf("two addresses took %v", took)
	}
}

// A kernel takes a packet for any of its addresses on any of its NICs, and answers where its routes lead.
func TestScanSeesTheWeakHost(t *testing.T) {
	l := New(t)
	for _, nic := range []string{"all", "vnet0", "eth0"} {
		l.Appliance.sysctl("net/ipv4/conf/"+nic+"/rp_filter", "0")
	}
	echo(t, l.Appliance, ":443")
	scan := Scan{From: l.VNet.Namespace, NIC: "eth0", MAC: l.Appliance.NIC("vnet0").HardwareAddr,
		Addrs: []netip.Addr{ApplianceAddr4}, Ports: []uint16{443}}
	if got := l.Scan(scan); len(got) != 0 {
		t.Errorf("answers in the VNet: %v", got)
	}
	scan.Watch = []Watch{{l.Appliance, "eth0"}}
	if got := l.Scan(scan); got[netip.AddrPortFrom(ApplianceAddr4, 443)] != Open {
		t.Errorf("answers: %v", got)
	}
}

func TestBlock(t *testing.T) {
	l := New(t)
	echo(t, l.Appliance, ":443")
	echo(t, l.Appliance, ":444")
	for _, a := range []netip.Addr{ApplianceAddr4, ApplianceAddr6} {
		address := netip.AddrPortFrom(a, 443).String()
		l.Block("tcp", 443)
		var ne net.Error
		if err := ask(t, l.Client, address); !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("blocked %s: %v, want silence", address, err)
		}
		if err := ask(t, l.Client, netip.AddrPortFrom(a, 444).String()); err != nil {
			t.Errorf("port that is not blocked: %v", err)
		}
		l.Unblock("tcp", 443)
		if err := ask(t, l.Client, address); err != nil {
			t.Errorf("unblocked %s: %v", address, err)
		}
	}
	pc, err := l.Appliance.ListenPacket("udp", ":443")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	for _, blocked := range []bool{true, false} {
		if blocked {
			l.Block("udp", 443)
		} else {
			l.Unblock("udp", 443)
		}
		c, err := l.Client.DialContext(t.Context(), "udp", "10.77.2.2:443")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		pc.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, _, err := pc.ReadFrom(make([]byte, 1)); (err != nil) != blocked {
			t.Errorf("blocked %t: %v", blocked, err)
		}
		c.Close()
	}
}

func TestProcessEndsWithTheTest(t *testing.T) {
	var pid int
	t.Run("inside", func(t *testing.T) {
		l := New(t)
		p := Start(t, l.Client.Command(t.Context(), "sh", "-c", "echo begun; setsid sleep 1000 & sleep 1000"))
		waitFor(t, 5*time.Second, "output", func(context.Context) bool { return p.Output() == "begun\n" })
		pid = p.Process.Pid
	})
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d: %v", pid, err)
	}
}

// A lab whose test was killed is taken down by the next one.
func TestSweep(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%s%d-1", namePrefix, dead.Process.Pid)
	n := &Namespace{Name: id + "-client"}
	dir := filepath.Join(runRoot, id)
	mount := filepath.Join(dir, "netns", "hub")
	if err := errors.Join(
		ip([]string{"netns add " + n.Name}),
		os.MkdirAll(filepath.Dir(mount), 0o755),
		os.WriteFile(mount, nil, 0o600),
		unix.Mount(n.Path(), mount, "", unix.MS_BIND, ""),
	); err != nil {
		t.Fatal(err)
	}
	sleep := n.Command(t.Context(), "sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // for nsenter
	if err := Sweep(); err != nil {
		t.Fatal(err)
	}
	if err := sleep.Wait(); err == nil {
		t.Error("the process was not killed")
	}
	for _, path := range []string{n.Path(), dir} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is still there", path)
		}
	}
	if slices.Contains(leftovers(), id) {
		t.Error("the lab is still listed")
	}
}
