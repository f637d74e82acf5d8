package client

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"sallyport/frame"
	"sallyport/frame/frametest"
	"sallyport/relay"
)

// TestFirst: what a program says before the appliance has answered is on its way before that, all of it; another session
// gets it again, and what comes later is read by others.
func TestFirst(t *testing.T) {
	program, local := net.Pipe()
	defer program.Close()
	f := &First{Conn: relay.Wrap(local)}
	open := func(answer bool) string {
		c, a := frametest.Pipe(0)
		defer a.Break()
		got := make(chan string, 1)
		go func() {
			in, err := frame.Accept(t.Context(), a, frame.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if !answer { // until it has heard all, which is lost with the connection
				time.Sleep(20 * time.Millisecond)
				a.Break()
				got <- ""
				return
			}
			time.Sleep(20 * time.Millisecond)
			b, err := io.ReadAll(io.LimitReader(in.Accept(frame.Opened{Flow: make([]byte, 16), Session: make([]byte, 16)}), 8))
			if err != nil {
				t.Error(err)
			}
			got <- string(b)
		}()
		s, _, err := frame.Open(t.Context(), c, frame.OpenRequest{Target: "db-1", Protocol: "tcp"}, frame.Options{Early: f.early()})
		if answer != (err == nil) {
			t.Fatal(err)
		}
		if err == nil {
			defer s.Close()
		}
		return <-got
	}
	go io.WriteString(program, "firs")
	open(false)
	go io.WriteString(program, "tand")
	if got := open(true); got != "firstand" {
		t.Errorf("the appliance got %q", got)
	}
	for protocol, may := range map[string]bool{"ssh": true, "rdp": true, "tcp": false} {
		if f.mayRepeat(protocol) != may {
			t.Errorf("%s is repeated: %v", protocol, !may)
		}
	}
	if !(&First{}).mayRepeat("tcp") || !(*First)(nil).mayRepeat("tcp") {
		t.Error("what has said nothing may not be repeated")
	}
	go io.WriteString(program, "then")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	b := make([]byte, 8)
	if _, err := f.Conn.WaitReadable(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := f.Conn.Read(b); string(b[:n]) != "then" || err != nil {
		t.Errorf("the relay reads %q, %v", b[:n], err)
	}
}

// TestFirstFails: a program that breaks its connection while the flow is opened ends the flow as one that does so later.
func TestFirstFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	program, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	local, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f := &First{Conn: relay.Wrap(local)}
	client, near := frametest.Flow(t, func(t testing.TB) (frame.Carrier, func() frame.Carrier) {
		a, b := frametest.Pipe(0)
		return a, func() frame.Carrier { return b }
	})
	program.(*net.TCPConn).SetLinger(0)
	program.Close()
	f.say(t.Context(), client)
	err = f.join(t.Context(), client)
	if r, _ := frame.ReasonOf(err); r.Code != frame.Closed {
		t.Errorf("the flow ends with %v", err)
	}
	if _, err := near.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the appliance hears %v", err)
	}
}
