package vm

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// TestBoot: from a kernel and an initramfs to a command on a real sshd through the machine, in each of the three forms and in
// little memory. What is seen of it from outside is one port, the kernel has no more of a network than the form says, and the
// power button ends it.
func TestBoot(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			m := start(t, options{form: f, memory: 192})
			m.comesIn()
			m.hasNothing()
			m.oneDoor()
			m.comesIn() // it has borne all that
			if f.name == "kernel" {
				m.besideMany()
			}
			begin := time.Now()
			m.powerOff()
			m.console(1, `the machine stops how="power off"`)
			t.Logf("the power button was answered in %v", time.Since(begin).Round(10*time.Millisecond))
		})
	}
}

// hasNothing checks what the kernel's own tables have, as process 1 dumps them.
func (m *machine) hasNothing() {
	m.t.Helper()
	own := `vnet=none interfaces=\[\] addresses=0 routes=0`
	if m.form.inside {
		own = `vnet=none interfaces=\[eth0\] addresses=0 routes=0` // nobody uses it
	}
	if m.form.name == "kernel" {
		own = `vnet=none interfaces=\[eth0\] addresses=[1-9]`
	} else if m.form.name == "link" {
		m.console(1, `the kernel has vnet=listen interfaces=\[eth0\] addresses=0 routes=0`)
	}
	m.console(1, "the kernel has "+own)
	m.console(1, `the kernel has vnet=hub interfaces=\[eth1\] addresses=0 routes=0`)
}

// oneDoor asks all ports from both sides, not too fast for an emulated machine.
func (m *machine) oneDoor() {
	m.t.Helper()
	const pause = 6 * time.Millisecond
	closed := 0
	for _, side := range []lab.Scan{
		{From: m.Router, NIC: "appliance0", MAC: mac(m.t, publicMAC)},
		{From: m.VNet.Namespace, NIC: "eth0", MAC: mac(m.t, vnetMAC)},
	} {
		for _, address := range []string{"10.77.2.2", "10.99.0.4"} {
			side.Addrs, side.Pause, side.Passes = []netip.Addr{netip.MustParseAddr(address)}, pause, 1
			if address == m.form.public {
				side.Passes = 2 // what a stack of ours does not serve is silent
			}
			if address == m.form.public && m.form.name == "kernel" {
				side.Passes = 10 // until all have answered
			}
			for at, answer := range m.Scan(side) {
				switch {
				case answer == lab.Closed:
					closed++
				case at.Port() != 443 || address != m.form.public:
					m.t.Errorf("%v is %s on the side of %s", at, answer, side.NIC)
				}
			}
		}
	}
	if m.t.Logf("%d ports said that they are closed", closed); m.form.name == "kernel" && closed < 50_000 {
		m.t.Errorf("only %d ports answered: too fast a scan for this machine", closed)
	}
}

// TestDisk: the disk, started by UEFI firmware and systemd-boot, with the command line that is signed with the kernel, in
// little memory, beside many flows.
func TestDisk(t *testing.T) {
	t.Parallel()
	m := start(t, options{disk: true, memory: 320, cpus: 2})
	m.comesIn()
	m.hasNothing()
	if !*show { // four hundred lines that make vm is not for
		m.besideMany()
	}
}

// TestLease: the kernel's address comes by DHCP and is renewed. Here people come in from the VNet's side, and the target is
// the router.
func TestLease(t *testing.T) {
	const length = 20 * time.Second
	t.Parallel()
	var server *lab.DHCP
	m := start(t, options{form: form{name: "lease", public: "10.99.0.4", inside: true}, access: strings.ReplaceAll(access, "10.99.0.10", "10.77.2.1"),
		config: `
name: machine
tls: {self_signed: true}
machine: {interface: "` + vnetMAC + `", addresses: dhcp, enrol: ann}
vnets:
  hub:
    link: {packet: eth0}
    addresses: [10.77.2.2/24]
    prefixes: [10.77.2.0/24]
`, prepare: func(m *machine) {
			server = m.DHCP(m.VNet.Namespace, lab.DHCPLease{Address: netip.MustParsePrefix("10.99.0.4/16"), Length: length})
			m.sshd = m.SSHD(m.Router, lab.SSHDOptions{})
		}})
	m.comesIn()
	m.console(1, `the kernel has vnet=hub interfaces=\[eth0\] addresses=0 routes=0`)
	asked := len(server.Asked())
	m.eventually("the lease is renewed", func() error {
		if since := server.Asked()[asked:]; !slices.Contains(since, "REQUEST 10.99.0.4 from 10.99.0.4") {
			return fmt.Errorf("the server was asked %q", since)
		}
		return nil
	})
	m.comesIn()
}

// answers asks for the machine's health, over TLS, until it gets an answer.
func (m *machine) answers() (err error) {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); {
		if err = m.shakeHands(time.Second); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// shakeHands does a TLS handshake with the machine.
func (m *machine) shakeHands(patience time.Duration) error {
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	c, err := m.person().DialContext(ctx, "tcp", m.form.public+":443")
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(limit))
	return tls.Client(c, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(m.t.Context())
}

func mac(t *testing.T, s string) net.HardwareAddr {
	t.Helper()
	a, err := net.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
