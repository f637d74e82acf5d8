package transport_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"sallyport/frame"
	"sallyport/transport"
)

// TestOwnConnection: the appliance gets in beside strangers who have taken all places, and not once it has ended.
func TestOwnConnection(t *testing.T) {
	cert := transport.SelfSigned(t)
	server := &transport.Server{
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return cert, nil },
		HTTP:        http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }),
		MaxPending:  2,
		Breach: func(_ frame.Peer, err error) {
			t.Error(err)
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.ServeHTTPS(ctx, l); err != nil {
			t.Error(err)
		}
	})
	for range 8 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for range 3 {
		ours, theirs := pair(t)
		if err := server.Take(t.Context(), theirs); err != nil {
			t.Fatal(err)
		}
		ours.SetDeadline(time.Now().Add(5 * time.Second))
		c := tls.Client(ours, &tls.Config{InsecureSkipVerify: true})
		if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: appliance\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatal(answer, err)
		}
		c.Close()
	}
	cancel()
	wg.Wait()
	late, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	ours, theirs := pair(t)
	defer ours.Close()
	defer theirs.Close()
	if err := server.Take(late, theirs); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that has ended: %v", err)
	}
}

// pair is a connection and its other end.
func pair(t *testing.T) (ours, theirs net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.Dial("tcp", l.Addr().String()); err == nil {
		theirs, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}
