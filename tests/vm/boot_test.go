package vm

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// TestBoot: from a kernel and an initramfs to a command on a real sshd through the machine, in each of the three forms.
// What is seen of it from outside is one port, the kernel has no more of a network than the form says, and the power
// button ends it.
func TestBoot(t *testing.T) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			m := start(t, options{form: f})
			m.comesIn()
			m.hasNothing()
			m.oneDoor()
			m.comesIn() // it has borne all that
			begin := time.Now()
			m.command("system_powerdown")
			m.ends()
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

// oneDoor asks all ports from both sides.
func (m *machine) oneDoor() {
	m.t.Helper()
	addresses := []netip.Addr{netip.MustParseAddr("10.77.2.2"), netip.MustParseAddr("10.99.0.4"), netip.MustParseAddr("127.0.0.1")}
	for _, side := range []lab.Scan{
		{From: m.Router, NIC: "appliance0", MAC: mac(m.t, publicMAC), Addrs: addresses},
		{From: m.VNet.Namespace, NIC: "eth0", MAC: mac(m.t, vnetMAC), Addrs: addresses},
	} {
		closed := 0
		for at, answer := range m.Scan(side) {
			switch {
			case answer == lab.Closed:
				closed++
			case at.Port() != 443 || at.Addr().String() != m.form.public:
				m.t.Errorf("%v is %s on the side of %s", at, answer, side.NIC)
			}
		}
		m.t.Logf("%d ports answered that they are closed, on the side of %s", closed, side.MAC)
	}
}

func mac(t *testing.T, s string) net.HardwareAddr {
	t.Helper()
	a, err := net.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
