package boot

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

const someModules = "button\t\tacpi*:LNXPWRBN:*\n" +
	"net_failover\tfailover\t\n" +
	"failover\t\t\n" +
	"virtio\t\t\n" +
	"virtio_net\tvirtio,failover,net_failover\tvirtio:d00000001v*\n" +
	"virtio_pci\tvirtio\tpci:v00001AF4d*sv*sd*bc*sc*i* of:N*T*Cvirtio,pci\n"

func TestIndex(t *testing.T) {
	x, err := parseIndex(strings.NewReader(someModules))
	if err != nil {
		t.Fatal(err)
	}
	for device, want := range map[string]string{
		"virtio:d00000001v00001AF4":                             "virtio_net",
		"pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00": "virtio_pci",
		"acpi:LNXPWRBN:":                                        "button", // the pattern has a star before the colon
		"pci:v00008086d000029C0sv00001AF4sd00001100bc06sc00i00": "",
		"of:Na/bTxCvirtio,pci":                                  "virtio_pci", // a slash is a character like others
	} {
		if got := strings.Join(x.drivers(device), " "); got != want {
			t.Errorf("%s: drivers %q, not %q", device, got, want)
		}
	}
	var order []string
	l := &loader{index: x, done: map[string]bool{}, insert: func(name string) error {
		order = append(order, name)
		if name == "failover" {
			return errors.New("broken")
		}
		return nil
	}}
	if err := l.load("virtio_net"); err == nil || err.Error() != "module failover: broken" {
		t.Errorf("the fault is told as %v", err)
	}
	if err := l.load("virtio_net"); err != nil {
		t.Errorf("a second time: %v", err)
	}
	if !slices.Equal(order, []string{"virtio", "failover", "net_failover", "virtio_net"}) {
		t.Errorf("loaded in the order %v", order)
	}
	if err := l.load("nothing"); err == nil {
		t.Error("a module that is not there was loaded")
	}
}

// A module that needs itself is loaded once.
func TestCircle(t *testing.T) {
	x, err := parseIndex(strings.NewReader("a\tb\t\nb\ta\t\n"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	l := &loader{index: x, done: map[string]bool{}, insert: func(string) error { n++; return nil }}
	if err := l.load("a"); err != nil || n != 2 {
		t.Errorf("%d modules, %v", n, err)
	}
}

func TestBadIndex(t *testing.T) {
	for _, bad := range []string{"a\n", "../a\t\t\n", "a\t../b\t\n", "\t\t\n", strings.Repeat("a", 65) + "\t\t\n",
		"a\t" + strings.Repeat("b,", 65) + "\t\n", "a\t\t" + strings.Repeat("x", maxModuleLine)} {
		if _, err := parseIndex(strings.NewReader(bad)); err == nil {
			t.Errorf("%.40q was taken", bad)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(someModules, "virtio:d00000001v00001AF4")
	f.Add("a\tb\t[\\:*\nb\ta\t*\n", "[:")
	f.Fuzz(func(t *testing.T, text, device string) {
		x, err := parseIndex(strings.NewReader(text))
		if err != nil {
			return
		}
		l := &loader{index: x, done: map[string]bool{}, insert: func(name string) error {
			if !moduleName.MatchString(name) {
				t.Errorf("loads %q", name)
			}
			return nil
		}}
		for _, name := range x.drivers(device) {
			l.load(name)
		}
	})
}
