package transport

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// crumbs writes in pieces, some time apart, and no more than most bytes.
type crumbs struct {
	*net.TCPConn
	piece, most int
}

func (c *crumbs) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(c.piece, len(rest), c.most)
		if n == 0 {
			c.CloseWrite()
			return len(p), nil
		}
		if _, err := c.TCPConn.Write(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
		c.most -= n
		time.Sleep(200 * time.Microsecond)
	}
	return len(p), nil
}

// parkedPair is a carrier whose reader waits below crypto/tls, and its client.
func parkedPair(t *testing.T) (*tlsCarrier, *tls.Conn, *crumbs) {
	t.Helper()
	near, far := pairOfTCP(t)
	config := &tls.Config{Certificates: []tls.Certificate{*selfSigned(t)}, InsecureSkipVerify: true}
	below := &batch{Conn: &countedConn{Conn: near, begun: true, leave: func() {}}}
	under := &crumbs{far.(*net.TCPConn), 1 << 20, 1 << 30}
	carrier, client := &tlsCarrier{Conn: tls.Server(below, config), below: below}, tls.Client(under, config)
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if err := errors.Join(carrier.Handshake(), <-shaken); err != nil {
		t.Fatal(err)
	}
	if below.park(); below.parked == nil {
		t.Fatal("it is not parked")
	}
	return carrier, client, under
}

// TestParked: who waits below crypto/tls hears what who waits in it would.
func TestParked(t *testing.T) {
	t.Run("records in pieces", func(t *testing.T) {
		carrier, client, under := parkedPair(t)
		want := make([]byte, 100<<10)
		rand.Read(want)
		go func() {
			for rest := want; len(rest) > 0; rest = rest[min(len(rest), 9999):] {
				under.piece = 1 + len(rest)%4999
				client.Write(rest[:min(len(rest), 9999)])
			}
			client.Close()
		}()
		if got, err := io.ReadAll(carrier); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes of %d came, %v, or others", len(got), len(want), err)
		}
	})
	t.Run("end within a record", func(t *testing.T) {
		carrier, client, under := parkedPair(t)
		under.most = 100
		go client.Write(make([]byte, 1000))
		if n, err := carrier.Read(make([]byte, 1000)); n != 0 || err != io.ErrUnexpectedEOF {
			t.Errorf("read %d, %v", n, err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		carrier, client, _ := parkedPair(t)
		b := make([]byte, 10)
		for range 2 { // the second has passed already
			carrier.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if n, err := carrier.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || !timedOut(err) {
				t.Errorf("read %d, %v", n, err)
			}
		}
		carrier.SetReadDeadline(time.Time{})
		go client.Write([]byte("still here"))
		if n, err := io.ReadFull(carrier, b); string(b[:n]) != "still here" || err != nil {
			t.Errorf("then %q, %v", b[:n], err)
		}
	})
	t.Run("close", func(t *testing.T) {
		carrier, _, _ := parkedPair(t)
		time.AfterFunc(20*time.Millisecond, func() { carrier.Close() })
		if n, err := carrier.Read(make([]byte, 10)); n != 0 || !errors.Is(err, net.ErrClosed) {
			t.Errorf("read %d, %v", n, err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		carrier, _, under := parkedPair(t)
		under.SetLinger(0)
		under.Close()
		var op *net.OpError
		if n, err := carrier.Read(make([]byte, 10)); n != 0 || !errors.As(err, &op) {
			t.Errorf("read %d, %v", n, err)
		}
	})
}
