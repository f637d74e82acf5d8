package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"sallyport/netstack/dhcp"
	"sallyport/netstack/link"
)

func (l *lab) onNIC(t *testing.T, f func(netlink.Link) error) {
	t.Helper()
	l.nic.do(t, func() error {
		nic, err := netlink.LinkByIndex(l.ifindex)
		if err != nil {
			return err
		}
		return f(nic)
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 200 {
		if ok() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal(what)
}

// TestLinkLost: connections outlive a NIC that is set down for a while, and end with one that is removed.
func TestLinkLost(t *testing.T) {
	l := newLab(t)
	s := l.stack(t, nil)
	ln := l.listen(t, net.JoinHostPort(peer4, "5000"))
	c, err := s.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()

	for range 2 {
		l.onNIC(t, netlink.LinkSetDown)
		eventually(t, "the NIC is down and nobody says so", func() bool { return errors.Is(s.Err(), link.ErrDown) })
		if _, err := s.DialContext(t.Context(), "tcp", ln.Addr().String()); !errors.Is(err, ErrLinkDown) {
			t.Errorf("dial: %v", err)
		}
		l.onNIC(t, netlink.LinkSetUp)
		eventually(t, "the NIC is up and nobody says so", func() bool { return s.Err() == nil })
		k.Write([]byte("x"))
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if n, err := c.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("after the NIC's rest: %d, %v", n, err)
		}
	}
	c.SetReadDeadline(time.Time{})

	read := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	l.onNIC(t, netlink.LinkDel)
	<-s.Done()
	if err := <-read; !errors.Is(err, ErrLinkDown) || !errors.Is(err, link.ErrGone) {
		t.Errorf("read: %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, link.ErrGone) {
		t.Errorf("write: %v", err)
	}
	if _, err := s.DialContext(t.Context(), "tcp", ln.Addr().String()); !errors.Is(err, link.ErrGone) {
		t.Errorf("dial: %v", err)
	}
	k.(*net.TCPConn).SetLinger(0)
}

// TestTapLost: a TAP that is deleted takes its stack along.
func TestTapLost(t *testing.T) {
	n := newNamespace(t)
	var f *os.File
	n.do(t, func() (err error) {
		f, err = openTap("sptap0", peer4+"/24")
		return err
	})
	tap, err := link.Tap(f, link.Options{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}})
	if err != nil {
		t.Fatal(err)
	}
	s := newStack(t, Config{Name: "tap", Link: tap, Addresses: prefixes(ours4 + "/24"), Prefixes: prefixes("10.77.0.0/24")})
	n.do(t, func() error {
		l, err := netlink.LinkByName("sptap0")
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	})
	<-s.Done()
	if err := s.Err(); !errors.Is(err, link.ErrGone) {
		t.Error(err)
	}
}

// TestMissed: what the kernel drops because nobody reads is counted.
func TestMissed(t *testing.T) {
	l := newLab(t)
	var f *os.File
	l.nic.do(t, func() (err error) {
		f, err = packetSocket(l.ifindex)
		return err
	})
	nic, err := link.Packet([]*os.File{f}, link.Options{MAC: l.mac}) // and never attached
	if err != nil {
		t.Fatal(err)
	}
	defer nic.Close()
	l.peer.do(t, func() error {
		c, err := net.Dial("udp4", "10.77.0.255:9")
		if err != nil {
			return err
		}
		defer c.Close()
		for range 40000 {
			c.Write(make([]byte, 1000))
		}
		return nil
	})
	first := nic.Stats().RxMissed
	if first == 0 || nic.Stats().RxMissed != first {
		t.Errorf("missed %d, then %d", first, nic.Stats().RxMissed)
	}
}

// TestAside: DHCP replies are seen beside the stack, and nothing else is.
func TestAside(t *testing.T) {
	l := newLab(t)
	var f *os.File
	l.nic.do(t, func() (err error) {
		f, err = packetSocket(l.ifindex)
		return err
	})
	nic, err := link.Packet([]*os.File{f}, link.Options{MAC: l.mac})
	if err != nil {
		t.Fatal(err)
	}
	aside := link.Aside(nic)
	newStack(t, Config{Name: "aside", Link: nic, Dynamic: true, Prefixes: prefixes("10.77.0.0/24")})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l.peer.do(t, func() error {
		for _, port := range []int{66, 67} {
			c, err := net.DialUDP("udp4", &net.UDPAddr{Port: port}, &net.UDPAddr{IP: net.IP{10, 77, 0, 255}, Port: 68})
			if err != nil {
				return err
			}
			fmt.Fprintf(c, "from %d", port)
			c.Close()
		}
		return nil
	})
	b := make([]byte, 2000)
	n, err := aside.ReadFrame(ctx, b)
	if err != nil || n < 7 || string(b[n-7:n]) != "from 67" {
		t.Errorf("%q, %v", b[:n], err)
	}

	// Out: a question that the peer's kernel gets.
	var server net.PacketConn
	l.peer.do(t, func() (err error) {
		server, err = net.ListenPacket("udp4", ":67")
		return err
	})
	defer server.Close()
	asking, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- dhcp.Client{Conn: aside, MAC: l.mac}.Run(asking, func(*dhcp.Lease, error) {}) }()
	server.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, _, err := server.ReadFrom(b); err != nil || n < 240 {
		t.Errorf("the server got %d bytes, %v", n, err)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
