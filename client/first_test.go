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
