package lab

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// The picture and the keyboard of a desktop, through a real client that stands where the appliance will.
func TestShadowThroughXFreeRDP(t *testing.T) {
	l := New(t)
	l.Appliance.AddAddress("vnet0", netip.MustParsePrefix("10.99.0.1/16"))
	s := l.Shadow(l.VNet.Namespace, ShadowOptions{})
	screen := l.Xvfb(l.Appliance, "1024x768")
	p := screen.XFreeRDP(RDPLogin{Addr: s.Addr.String(), User: s.User, Password: s.Password})
	screen.WaitText("SHADOW DESKTOP", 30*time.Second)
	screen.Type("HELLO 4711")
	s.Display.WaitText("HELLO 4711", 20*time.Second)
	screen.WaitText("HELLO 4711", 20*time.Second)
	if c := screen.Pixel(512, 700); min(c.R, c.G, c.B) < 240 { // the codec is not exact
		t.Errorf("the terminal's background is %v", c)
	}
	if strings.Contains(strings.Join(p.Args, " "), s.Password) {
		t.Error("the password is in the command line")
	}
}

func TestShadowRefusesAWrongPassword(t *testing.T) {
	l := New(t)
	l.Appliance.AddAddress("vnet0", netip.MustParsePrefix("10.99.0.1/16"))
	s := l.Shadow(l.VNet.Namespace, ShadowOptions{Port: 3390})
	p := l.Xvfb(l.Appliance, "800x600").XFreeRDP(RDPLogin{Addr: s.Addr.String(), User: s.User, Password: "wrong"})
	select {
	case <-p.Done():
		if p.Wait() == nil {
			t.Error("xfreerdp is content")
		}
	case <-time.After(20 * time.Second):
		t.Error("xfreerdp does not end")
	}
}

func TestXRDPThroughXFreeRDP(t *testing.T) {
	l := New(t)
	l.Appliance.AddAddress("vnet0", netip.MustParsePrefix("10.99.0.1/16"))
	x := l.XRDP(l.VNet.Namespace, XRDPOptions{})
	screen := l.Xvfb(l.Appliance, "1024x768")
	screen.XFreeRDP(RDPLogin{Addr: x.Addr.String(), User: x.User, Password: x.Password, Args: []string{"/size:1000x700"}})
	screen.WaitText("XRDP DESKTOP", 60*time.Second)
	screen.Type("HELLO 4711")
	screen.WaitText("HELLO 4711", 20*time.Second)
}
