package netstack

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/net/nettest"
)

func TestMemory(t *testing.T) {
	var m Memory
	defer m.Close()
	l, err := m.Listen(t.Context(), "tcp", "10.0.0.1:22")
	if err != nil {
		t.Fatal(err)
	}
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		accepted := make(chan net.Conn)
		go func() {
			c, _ := l.Accept()
			accepted <- c
		}()
		if c1, err = m.DialContext(t.Context(), "tcp", "10.0.0.1:22"); err != nil {
			return nil, nil, nil, err
		}
		c2 = <-accepted
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	})
	if _, err := m.DialContext(t.Context(), "tcp", "10.0.0.1:23"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
}

func TestMemoryFence(t *testing.T) {
	m := Memory{
		Hosts: map[string][]netip.Addr{"db": {netip.MustParseAddr("10.0.0.1")}, "trap": {netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("127.0.0.1")}},
		Fence: &Fence{Prefixes: prefixes("10.0.0.0/8")},
	}
	defer m.Close()
	l, err := m.Listen(t.Context(), "tcp", ":22")
	if err != nil {
		t.Fatal(err)
	}
	go l.Accept()
	c, err := m.DialContext(t.Context(), "tcp", "db:22")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	var denied *DeniedError
	if _, err := m.DialContext(t.Context(), "tcp", "trap:22"); !errors.As(err, &denied) || denied.Reason != Loopback {
		t.Error(err)
	}
}
