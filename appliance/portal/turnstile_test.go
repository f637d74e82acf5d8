package portal

import (
	"net/netip"
	"testing"
	"time"
)

func TestTurnstile(t *testing.T) {
	var gate turnstile
	now := time.Unix(1000, 0)
	addr := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}) }
	passed := func(n int, from func(int) netip.Addr) (passed int) {
		for i := range n {
			if gate.pass(from(i), now) {
				passed++
			}
		}
		return passed
	}
	one := func(int) netip.Addr { return addr(1) }
	if n := passed(1000, one); n != perSource {
		t.Errorf("%d of one source", n)
	}
	// Of one /64 it does not matter from which address.
	if n := passed(1000, func(i int) netip.Addr { return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i)}) }); n != perSource {
		t.Errorf("%d of one network", n)
	}
	if n := passed(10_000, addr); n != perMinute-2*perSource {
		t.Errorf("%d of all", n)
	}
	now = now.Add(turnstileIn)
	if n := passed(1000, one); n != perSource {
		t.Errorf("%d in the next minute", n)
	}
}
