package transport_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/frame"
	"sallyport/transport"
)

// A slowSocket sends a datagram of more than a few bytes in no less than a millisecond, and counts them.
type slowSocket struct {
	net.PacketConn
	sent atomic.Int64
}

func (s *slowSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	if len(b) > 500 {
		s.sent.Add(1)
		time.Sleep(time.Millisecond)
	}
	return s.PacketConn.WriteTo(b, to)
}

// TestTypingOvertakes: a keystroke waits for packets that are made already, and not for one of each stream that moves much.
func TestTypingOvertakes(t *testing.T) {
	const files = 40
	var slow *slowSocket
	b := startOn(t, func(pc net.PacketConn) net.PacketConn {
		slow = &slowSocket{PacketConn: pc}
		return slow
	})
	var wg sync.WaitGroup
	defer wg.Wait()
	session, err := b.client(transport.QUIC).Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	pair := func() (near, far frame.Carrier) {
		near, err := session.Carrier(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		near.Write([]byte{0})
		far = <-b.carriers
		io.ReadFull(far, make([]byte, 1))
		return near, far
	}
	for range files {
		near, far := pair()
		defer near.Close()
		defer far.Close()
		wg.Go(func() { io.Copy(io.Discard, near) })
		wg.Go(func() {
			for b, err := make([]byte, frameSize), error(nil); err == nil; {
				_, err = far.Write(b)
			}
		})
	}
	near, far := pair()
	defer near.Close()
	defer far.Close()
	time.Sleep(200 * time.Millisecond) // all files move
	least := int64(1 << 30)
	for range 20 {
		before := slow.sent.Load()
		if _, err := far.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(near, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		least = min(least, slow.sent.Load()-before)
	}
	if least > files/2 {
		t.Errorf("a keystroke waits for %d packets at least, beside %d files", least, files)
	}
	t.Logf("%d packets", least)
}
