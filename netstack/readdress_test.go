package netstack

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"sallyport/netstack/link"
)

// addressed are a stack that has its addresses from nobody yet, and one that serves.
func addressed(t *testing.T) (near, far *Stack) {
	a, b := link.Pipe(link.PipeOptions{})
	return newStack(t, Config{Name: "near", Link: a, Dynamic: true, Prefixes: prefixes("10.9.0.0/24", "10.8.0.0/16")}), newStack(t, farConfig(b))
}

func (s *Stack) mustReaddress(t *testing.T, a Addressing) {
	t.Helper()
	if err := s.Readdress(a); err != nil {
		t.Fatal(err)
	}
}

func TestReaddress(t *testing.T) {
	near, far := addressed(t)
	l := listen(t, far)
	dial := func() error {
		c, err := near.DialContext(t.Context(), "tcp", "10.9.0.2:7")
		if err == nil {
			c.Close()
			if c, err := l.Accept(); err == nil {
				c.Close()
			}
		}
		return err
	}
	if err := dial(); !errors.Is(err, ErrNoAddressYet) || near.Stats().Up {
		t.Errorf("without an address: %v", err)
	}
	if _, err := near.LookupNetIP(t.Context(), "ip", "db.corp"); !errors.Is(err, ErrNoAddressYet) {
		t.Errorf("look up without an address: %v", err)
	}

	// The first address.
	near.mustReaddress(t, Addressing{Addresses: prefixes("10.9.0.50/24"), MTU: 1400})
	c, d := connect(t, near, l, "10.9.0.2:7")
	if at := c.LocalAddr().String(); at[:9] != "10.9.0.50" || near.guard.MTU() != 1400 || !near.Stats().Up {
		t.Errorf("from %s, MTU %d", at, near.guard.MTU())
	}
	if err := near.Fence().Check(netip.MustParseAddr("10.9.0.50")); err == nil {
		t.Error("our own address can be dialled")
	}

	// It stays when only the gateway changes, and what lies behind the gateway is reached for.
	if _, err := near.DialContext(t.Context(), "tcp", "10.8.0.1:7"); err == nil {
		t.Error("reached what lies behind no gateway")
	}
	near.mustReaddress(t, Addressing{Addresses: prefixes("10.9.0.50/24"), Gateways: []netip.Addr{netip.MustParseAddr("10.9.0.2")}})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := near.DialContext(ctx, "tcp", "10.8.0.1:7"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("behind the gateway: %v", err)
	}
	io.WriteString(d, "still here")
	if n, err := c.Read(make([]byte, 100)); n != 10 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}

	// A second address beside it, and the first goes: its connections end, the others do not.
	near.mustReaddress(t, Addressing{Addresses: prefixes("10.9.0.51/24")})
	for range 2 {
		if _, err := c.Read(make([]byte, 1)); err != ErrAddressLost {
			t.Errorf("read: %v", err)
		}
		if _, err := c.Take([]byte("x")); err != ErrAddressLost {
			t.Errorf("take: %v", err)
		}
	}
	if err := near.Fence().Check(netip.MustParseAddr("10.9.0.50")); err != nil {
		t.Errorf("the old address is still ours: %v", err)
	}
	c, _ = connect(t, near, l, "10.9.0.2:7")
	if at := c.LocalAddr().String(); at[:9] != "10.9.0.51" {
		t.Errorf("from %s", at)
	}

	// None any more: whoever waits is told.
	why := errors.New("the lease has expired")
	read := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		read <- err
	}()
	time.Sleep(10 * time.Millisecond)
	near.mustReaddress(t, Addressing{Why: why})
	if err := <-read; err != why {
		t.Errorf("read: %v", err)
	}
	if err := dial(); !errors.Is(err, why) {
		t.Errorf("dial: %v", err)
	}
	near.mustReaddress(t, Addressing{Addresses: prefixes("10.9.0.50/16")}) // the same address, another subnet
	near.mustReaddress(t, Addressing{Addresses: prefixes("10.9.0.50/24")})
	if err := dial(); err != nil {
		t.Errorf("at the end: %v", err)
	}
	if n := len(near.conns.all()); n != 2 { // those that the test has not closed yet
		t.Errorf("%d connections are remembered", n)
	}
}

// TestReaddressDNS: the name servers change with the lease.
func TestReaddressDNS(t *testing.T) {
	near, far := addressed(t)
	at, err := far.ListenPacket(t.Context(), "udp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 512)
		for {
			n, from, err := at.ReadFrom(b)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(b[:n]) != nil {
				continue
			}
			reply := new(dns.Msg).SetReply(q)
			if q.Question[0].Qtype == dns.TypeA {
				rr, _ := dns.NewRR(q.Question[0].Name + " 1 IN A 10.9.0.7")
				reply.Answer = append(reply.Answer, rr)
			}
			out, _ := reply.Pack()
			at.WriteTo(out, from)
		}
	}()
	near.mustReaddress(t, Addressing{Addresses: prefixes("10.9.0.50/24"), DNS: []netip.AddrPort{netip.MustParseAddrPort("10.9.0.2:7")}})
	if addrs, err := near.LookupNetIP(t.Context(), "ip", "db.corp"); err != nil || len(addrs) != 1 {
		t.Errorf("%v, %v", addrs, err)
	}
	near.mustReaddress(t, Addressing{Addresses: prefixes("10.9.0.50/24")})
	if addrs, err := near.LookupNetIP(t.Context(), "ip", "db.corp"); !errors.Is(err, ErrNoServers) {
		t.Errorf("%v, %v", addrs, err)
	}
	at.Close()
	<-done
}

// mortal is a link that a test ends as if its device had gone.
type mortal struct {
	link.Link
	gone chan struct{}
}

func (m mortal) Done() <-chan struct{} { return m.gone }

func (m mortal) Err() error {
	if isClosed(m.gone) {
		return link.ErrGone
	}
	return m.Link.Err()
}

// TestLostAndClosed: who closes a stack as soon as its link has gone leaves its connections the reason.
func TestLostAndClosed(t *testing.T) {
	for range 50 {
		a, b := link.Pipe(link.PipeOptions{})
		m := mortal{a, make(chan struct{})}
		near, far := newStack(t, nearConfig(m)), newStack(t, farConfig(b))
		c, _ := connect(t, near, listen(t, far), "10.9.0.2:7")
		read := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			read <- err
		}()
		close(m.gone)
		near.Close()
		if err := <-read; !errors.Is(err, ErrLinkDown) || !errors.Is(err, link.ErrGone) {
			t.Fatalf("read: %v", err)
		}
	}
}
