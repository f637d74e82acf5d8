package transport_test

import (
	"crypto/tls"
	"testing"
	"time"

	"sallyport/frame"
	"sallyport/transport"
)

// TestSpares: an HTTPS session keeps admitted connections for the next flows; they answer PING, take no part in what a
// carrier says, and those that the appliance has closed are not used.
func TestSpares(t *testing.T) {
	b := start(t)
	c := b.client(transport.HTTPS)
	c.Spares = 2
	s, err := c.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first := <-b.carriers // Dial's own
	ping := func(h *handed) {
		t.Helper()
		id := [8]byte{1, 2, 3}
		h.Write(frame.AppendProbe(nil, frame.TypePing, id))
		h.SetReadDeadline(time.Now().Add(5 * time.Second))
		if got, p, err := frame.ReadFrame(h); err != nil || got.Type != frame.TypePong || [8]byte(p) != id {
			t.Errorf("a PING gets %v %x, %v", got, p, err)
		}
	}
	ping(first)

	carrier, err := s.Carrier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer carrier.Close()
	talk := func(c frame.Carrier, h *handed) {
		t.Helper()
		for _, end := range []frame.Carrier{c, h} {
			end.SetReadDeadline(time.Now().Add(5 * time.Second))
		}
		c.Write([]byte("up"))
		h.Write([]byte("down"))
		up, down := make([]byte, 2), make([]byte, 4)
		h.Read(up)
		if c.Read(down); string(up) != "up" || string(down) != "down" {
			t.Errorf("%q came up, %q down", up, down)
		}
	}
	talk(carrier, first)

	spares := []*handed{<-b.carriers, <-b.carriers}
	for _, h := range spares {
		ping(h)
	}
	time.Sleep(100 * time.Millisecond) // until the client has seen that it has enough of them
	spares[1].Close()                  // the newest, which would be next
	time.Sleep(100 * time.Millisecond)
	again, err := s.Carrier(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	talk(again, spares[0])
	for range 2 {
		ping(<-b.carriers)
	}
	select {
	case <-b.carriers:
		t.Error("more spares than asked for")
	case <-time.After(200 * time.Millisecond):
	}
}

// TestTickets: the second connection of an HTTPS session resumes the first one's TLS, and proves who it is all the same.
func TestTickets(t *testing.T) {
	b := start(t)
	c := b.client(transport.HTTPS)
	c.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(2)
	s, err := c.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, resumed := range []bool{false, true, true} {
		carrier, err := s.Carrier(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go func() { (<-b.carriers).Write([]byte("x")) }()
		if _, err := carrier.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		if got := carrier.(interface{ ConnectionState() tls.ConnectionState }).ConnectionState().DidResume; got != resumed {
			t.Errorf("resumed: %v, not %v", got, resumed)
		}
		carrier.Close()
	}
}
