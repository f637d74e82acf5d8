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
	// A few who ask all that they may do not keep out who asks little.
	few := func(i int) netip.Addr { return addr(100 + i%30) }
	if n := passed(10_000, few); n != perMinute-2*perSource {
		t.Errorf("%d of thirty sources", n)
	}
	if n := passed(1000, func(int) netip.Addr { return addr(2) }); n != little {
		t.Errorf("%d of somebody else", n)
	}
	if n := passed(100_000, func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }); n != reserve-little || len(gate.by) > perMinute+reserve {
		t.Errorf("%d of all, from %d sources", n, len(gate.by))
	}
	now = now.Add(turnstileIn)
	if n := passed(1000, one); n != perSource {
		t.Errorf("%d in the next minute", n)
	}
}
