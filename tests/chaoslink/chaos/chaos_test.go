package chaos

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// far returns the address of a server that echoes TCP and UDP.
func far(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				io.Copy(c, c)
				c.(*net.TCPConn).CloseWrite()
			})
		}
	})
	wg.Go(func() {
		b := make([]byte, 2000)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			pc.WriteTo(append(b[:n], " for "+from.String()...), from)
		}
	})
	t.Cleanup(func() { l.Close(); pc.Close(); wg.Wait() })
	return l.Addr().String()
}

func link(t *testing.T) (*Link, func() net.Conn, net.Conn) {
	t.Helper()
	l := &Link{To: far(t), Seed: 7, Log: t.Logf}
	t.Cleanup(func() { l.Close() })
	tcp, err := l.ListenTCP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := l.ListenUDP("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dial := func(network string, a net.Addr) net.Conn {
		c, err := net.Dial(network, a.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(10 * time.Second))
		return c
	}
	return l, func() net.Conn { return dial("tcp", tcp) }, dial("udp", udp)
}

// echoes says whether what is sent comes back.
func echoes(c net.Conn, p []byte) error {
	go c.Write(p)
	got := make([]byte, len(p))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, p) {
		return errors.New("it differs")
	}
	return nil
}

func TestPassAndHalfClose(t *testing.T) {
	l, dial, _ := link(t)
	for _, kind := range []Kind{Pass, Drip} {
		l.Do(Fault{Kind: kind})
		c := dial()
		go func() {
			c.Write(bytes.Repeat([]byte("abc"), 10000))
			c.(*net.TCPConn).CloseWrite()
		}()
		if got, err := io.ReadAll(c); len(got) != 30000 || err != nil {
			t.Errorf("%s: %d bytes came back, %v", kind, len(got), err)
		}
	}
}

func TestCut(t *testing.T) {
	l, dial, _ := link(t)
	c := dial()
	if err := echoes(c, []byte("before")); err != nil {
		t.Fatal(err)
	}
	l.Do(Fault{Kind: Cut})
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a cut connection: %v", err)
	}
	if c, err := net.Dial("tcp", c.RemoteAddr().String()); err == nil { // else it was cut at once
		c.SetDeadline(time.Now().Add(10 * time.Second))
		if echoes(c, []byte("while it is cut")) == nil {
			t.Error("a new connection passes")
		}
		c.Close()
	}
	l.Do(Fault{Kind: Pass})
	if err := echoes(dial(), []byte("after")); err != nil {
		t.Error(err)
	}
	l.Do(Fault{Kind: Cut, After: 1000})
	c = dial()
	if err := echoes(c, make([]byte, 400)); err != nil {
		t.Errorf("800 of 1,000 bytes: %v", err)
	}
	if err := echoes(c, make([]byte, 400)); err == nil {
		t.Error("1,600 of 1,000 bytes pass")
	}
}

func TestSilence(t *testing.T) {
	for _, kind := range []Kind{HalfOpen, Blackhole} {
		l, dial, udp := link(t)
		c := dial()
		if err := errors.Join(echoes(c, []byte("before")), speaks(udp)); err != nil {
			t.Fatal(err)
		}
		l.Do(Fault{Kind: kind})
		for _, c := range []net.Conn{c, udp} {
			c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			if err := echoes(c, []byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", kind, err)
			}
		}
		l.Do(Fault{Kind: Pass})
		udp.SetReadDeadline(time.Now().Add(10 * time.Second))
		if err := speaks(udp); err != nil {
			t.Errorf("UDP after %s: %v", kind, err)
		}
	}
}

func speaks(c net.Conn) error {
	_, err := heard(c)
	return err
}

// heard is what the far side takes for the sender of a datagram.
func heard(c net.Conn) (string, error) {
	if _, err := c.Write([]byte("hello")); err != nil {
		return "", err
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	return string(b[:n]), err
}

func TestRebind(t *testing.T) {
	l, _, udp := link(t)
	first, err := heard(udp)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := heard(udp); err != nil || again != first {
		t.Errorf("%q, then %q, %v", first, again, err)
	}
	l.Do(Fault{Kind: Rebind})
	if other, err := heard(udp); err != nil || other == first {
		t.Errorf("%q, then after a rebind %q, %v", first, other, err)
	}
}

func TestParse(t *testing.T) {
	got, err := Parse("5s cut, cut@100000,1s-3s half-open", 7)
	want := []Step{{5 * time.Second, Fault{Cut, 0}}, {0, Fault{Cut, 100000}}, {got[2].Wait, Fault{HalfOpen, 0}}}
	if err != nil || !reflect.DeepEqual(got, want) || got[2].Wait < time.Second || got[2].Wait > 3*time.Second {
		t.Errorf("%v, %v", got, err)
	}
	if again, _ := Parse("5s cut, cut@100000,1s-3s half-open", 7); !reflect.DeepEqual(got, again) {
		t.Error("the same seed makes another script")
	}
	for _, bad := range []string{"", "explode", "5 cut", "cut@x", "3s-1s cut", "1s 2s cut"} {
		if _, err := Parse(bad, 7); err == nil {
			t.Errorf("%q is a script", bad)
		} else {
			t.Logf("%v", err)
		}
	}
}

func TestRun(t *testing.T) {
	l, dial, _ := link(t)
	steps, err := Parse("cut, 10ms pass", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Run(t.Context(), steps); err != nil {
		t.Fatal(err)
	}
	if err := echoes(dial(), []byte("x")); err != nil {
		t.Error(err)
	}
}
