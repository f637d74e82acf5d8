package transport

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"sallyport/frame"
)

func TestDoorWait(t *testing.T) {
	var d door
	stranger := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}) }
	var leaves []func()
	for range perSource {
		leave, ok := d.wait(stranger(1), 64)
		if !ok {
			t.Fatal("a source was refused below its limit")
		}
		leaves = append(leaves, leave)
	}
	if _, ok := d.wait(stranger(1), 64); ok {
		t.Error("a source may have more than its limit")
	}
	// The last tenth is for those who came lately.
	ctx, cancel := context.WithCancelCause(context.Background())
	friend := &frame.Peer{User: "ann", Device: "dev-1", Remote: netip.MustParseAddrPort("198.51.100.7:1")}
	if err := d.enter(ctx, friend, cancel); err != nil {
		t.Fatal(err)
	}
	for i := 2; ; i++ {
		leave, ok := d.wait(stranger(i), 64)
		if !ok {
			break
		}
		leaves = append(leaves, leave)
	}
	if len(leaves) != 64-6 {
		t.Errorf("%d strangers wait, want %d", len(leaves), 64-6)
	}
	leave, ok := d.wait(friend.Remote.Addr(), 64)
	if !ok {
		t.Fatal("one who came lately was refused")
	}
	leave()
	for _, leave := range leaves {
		leave()
		leave()
	}
	if d.waiting != 0 || len(d.bySource) != 0 {
		t.Errorf("%d wait from %d sources after all have left", d.waiting, len(d.bySource))
	}
	cancel(nil)
}

// TestDoorIPv6: who has a /64 has many addresses and is one source.
func TestDoorIPv6(t *testing.T) {
	var d door
	n := 0
	for i := range 100 {
		if _, ok := d.wait(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1)), 64); ok {
			n++
		}
	}
	if n != perSource {
		t.Errorf("a /64 may have %d strangers, want %d", n, perSource)
	}
}

func TestDoorEnter(t *testing.T) {
	var d door
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	why := errors.New("revoked")
	var connections []context.Context
	for i := range maxPerUser {
		one, end := context.WithCancelCause(ctx)
		if err := d.enter(one, &frame.Peer{User: "ann", Device: fmt.Sprintf("dev-%d", i%2)}, end); err != nil {
			t.Fatal(err)
		}
		connections = append(connections, one)
	}
	err := d.enter(ctx, &frame.Peer{User: "ann"}, cancel)
	if reason, _ := frame.ReasonOf(err); reason.Code != "E_LIMIT" {
		t.Errorf("one connection too many: %v", err)
	}
	if err := d.enter(ctx, &frame.Peer{User: "bob", Device: "dev-b"}, cancel); err != nil {
		t.Errorf("another person's connection: %v", err)
	}
	d.showOut("dev-0", why)
	for i, one := range connections {
		if got := context.Cause(one); (i%2 == 0) != errors.Is(got, why) {
			t.Errorf("connection %d of dev-%d ended with %v", i, i%2, got)
		}
	}
}
