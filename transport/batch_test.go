package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// pairOfTCP are the two ends of a connection on loopback.
func pairOfTCP(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// calls counts the calls of a connection.
type calls struct {
	net.Conn
	writes int
	fail   error
}

func (c *calls) Write(p []byte) (int, error) {
	c.writes++
	if c.fail != nil {
		return len(p) / 2, c.fail
	}
	return c.Conn.Write(p)
}

// TestBatchWrites: the records of one Write leave by one call, and a Write that failed is the last.
func TestBatchWrites(t *testing.T) {
	near, far := pairOfTCP(t)
	cert := selfSigned(t)
	config := &tls.Config{Certificates: []tls.Certificate{*cert}, InsecureSkipVerify: true, DynamicRecordSizingDisabled: true}
	under := &calls{Conn: near}
	below := &batch{Conn: under}
	client := &tlsCarrier{Conn: tls.Client(below, config), below: below}
	server := tls.Server(far, config)
	got := make(chan []byte)
	go func() {
		b, _ := io.ReadAll(server)
		got <- b
	}()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	var want []byte
	for _, size := range []int{1, record, record + 1, 64 << 10, 1 << 20} {
		p := bytes.Repeat([]byte{byte(size)}, size)
		want = append(want, p...)
		under.writes = 0
		if n, err := client.Write(p); n != size || err != nil {
			t.Fatalf("%d of %d, %v", n, size, err)
		}
		if most := 1 + size/(64<<10); under.writes > most {
			t.Errorf("%d bytes left by %d calls", size, under.writes)
		}
		if below.out != nil {
			t.Error("memory is held after a Write")
		}
	}
	client.CloseWrite()
	if b := <-got; !bytes.Equal(b, want) {
		t.Errorf("%d bytes arrived, %d were sent", len(b), len(want))
	}

	under.fail = os.ErrDeadlineExceeded
	for range 2 {
		if _, err := below.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a failing connection says %v", err)
		}
	}
	under.fail = nil
	below.hold()
	below.Write([]byte("lost"))
	under.fail = io.ErrClosedPipe
	if err := below.flush(); err != io.ErrClosedPipe || below.out != nil {
		t.Errorf("a flush that fails says %v", err)
	}
	under.fail = nil
	if _, err := below.Write([]byte("after a gap")); err != io.ErrClosedPipe {
		t.Errorf("after a flush that failed: %v", err)
	}
}

// TestCloseBesideWrite: a connection whose peer has stopped reading closes at once, even while a frame waits in it.
func TestCloseBesideWrite(t *testing.T) {
	near, far := pairOfTCP(t)
	cert := selfSigned(t)
	config := &tls.Config{Certificates: []tls.Certificate{*cert}, InsecureSkipVerify: true, DynamicRecordSizingDisabled: true}
	below := &batch{Conn: near}
	client := &tlsCarrier{Conn: tls.Client(below, config), below: below}
	go tls.Server(far, config).Handshake()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	written := make(chan error)
	go func() {
		for {
			if _, err := client.Write(make([]byte, 64<<10)); err != nil {
				written <- err
				return
			}
		}
	}()
	time.Sleep(300 * time.Millisecond) // until nothing more fits
	begin := time.Now()
	client.Close()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("closing took %v", took)
	}
	<-written
}
