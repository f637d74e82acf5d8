package transport

import (
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/ipv4"
)

// TestPace: who reads waits for a connection that is behind until it has caught up, and for no other.
func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where waiting takes no time, so that patience does not end
		var p pace
		peer := netip.MustParseAddrPort("192.0.2.1:4433")
		asked, taken := 0, uint64(5000)
		forget := p.follow(peer, func() uint64 {
			asked++
			return taken + uint64(asked)*paceAhead/10
		})
		c := p.of(peer)
		asked = 0
		if p.await(c); asked != 1 {
			t.Errorf("asked %d times after a connection that is not behind", asked)
		}
		c.given += 2 * paceAhead
		if p.await(c); asked < 10 || c.behind() >= paceAhead {
			t.Errorf("asked %d times; %d bytes are behind", asked, c.behind())
		}

		again := p.follow(peer, func() uint64 { return 0 })
		forget()
		if p.of(peer) == nil {
			t.Error("the end of an old connection has a new one with its address forgotten")
		}
		if again(); p.of(peer) != nil {
			t.Error("not forgotten")
		}
	})
}

// TestPatience: a connection that does not catch up is waited for a share of the time only, and what it has lost is not
// held against it.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		c := &tally{taken: func() uint64 {
			time.Sleep(time.Millisecond / 10)
			return 1000
		}}
		begin := time.Now()
		const rounds = 50
		for range rounds {
			c.given = 1000 + 2*paceAhead
			if p.await(c); c.behind() != 0 {
				t.Fatalf("%d bytes behind", c.behind())
			}
			time.Sleep(2 * time.Millisecond)
		}
		waited := time.Since(begin) - rounds*2*time.Millisecond
		if least, most := mostPatience, mostPatience+rounds*time.Millisecond; waited < least || waited > most {
			t.Errorf("waited %v", waited)
		}
		c.given = 0 // what came before it was followed
		if c.behind() != 0 {
			t.Errorf("%d bytes behind", c.behind())
		}
	})
}

// TestTally: what a socket gives away is held against its sender's connection only.
func TestTally(t *testing.T) {
	listen := func() *net.UDPConn {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	in, one, other := listen(), listen(), listen()
	s, ok := aggregate(in).(*groSocket)
	if !ok {
		t.Fatal("the kernel has no UDP_GRO")
	}
	peer := addrPort(one.LocalAddr())
	s.pace.follow(peer, func() uint64 { return 100 })
	for _, from := range []*net.UDPConn{one, other, one} {
		if _, err := from.WriteTo(make([]byte, 700), in.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	in.SetReadDeadline(time.Now().Add(5 * time.Second))
	ms := []ipv4.Message{{Buffers: [][]byte{make([]byte, 1452)}, OOB: make([]byte, groOOB)}}
	for range 3 {
		if _, err := s.ReadBatch(ms, 0); err != nil {
			t.Fatal(err)
		}
	}
	if c := s.pace.of(peer); c.behind() != 1400 {
		t.Errorf("%d bytes behind", c.behind())
	}
}
