package main

import "testing"

// TestBusyPort: where the asked port is taken, by TCP or by UDP alone, the demo has another, the same for both.
func TestBusyPort(t *testing.T) {
	tcp, udp, err := listenBoth("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	asked := tcp.Addr().String()
	for _, busy := range []string{"TCP and UDP", "UDP"} {
		tcp2, udp2, err := listenBoth(asked)
		if err != nil {
			t.Fatalf("%s: %v", busy, err)
		}
		if got := tcp2.Addr().String(); got == asked || got != udp2.LocalAddr().String() {
			t.Errorf("%s of %s busy: listens on %s and %v", busy, asked, got, udp2.LocalAddr())
		}
		tcp2.Close()
		udp2.Close()
		tcp.Close()
	}
}
