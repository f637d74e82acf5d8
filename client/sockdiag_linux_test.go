package client

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOwnerByDiag: the kernel says whose a connection is, by either family, and that there is none.
func TestOwnerByDiag(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1"} {
		t.Run(host, func(t *testing.T) {
			l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			from, to := addrPortOf(s.RemoteAddr()), addrPortOf(s.LocalAddr())
			begin := time.Now()
			uid, err := ownerByDiag(from, to)
			t.Logf("%v to %v: user %d, %v, after %v", from, to, uid, err, time.Since(begin))
			if err != nil || uid != os.Getuid() {
				t.Errorf("%v to %v: user %d, %v", from, to, uid, err)
			}
			if uid, err := ownerByDiag(netip.AddrPortFrom(from.Addr(), 1), to); !errors.Is(err, errNoDiag) {
				t.Errorf("of a connection that there is not: user %d, %v", uid, err)
			}
			c.Close()
			s.Close()
			if uid, err := ownerByDiag(from, to); err == nil {
				t.Errorf("of a connection that nobody holds: user %d, %v", uid, err)
			}
		})
	}
	if os.Getuid() != 0 {
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	cmd := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/"+port+"; read <&3")
	cmd.Dir = "/"
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if uid, err := ownerByDiag(addrPortOf(s.RemoteAddr()), addrPortOf(s.LocalAddr())); uid != 65534 || err != nil {
		t.Errorf("of user 65534: %d, %v", uid, err)
	}
	s.Close()
	cmd.Wait()
}

func addrPortOf(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// FuzzDiagAnswer: whatever comes back is no user unless it is a whole message about these ports.
func FuzzDiagAnswer(f *testing.F) {
	from, to := netip.MustParseAddrPort("127.0.0.1:50000"), netip.MustParseAddrPort("127.0.0.1:8080")
	f.Add(diagQuestion(from, to))
	f.Add(make([]byte, nlHeader+diagMessage))
	f.Add([]byte{unix.NLMSG_ERROR})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := diagAnswer(b, from, to); err == nil && (len(b) < nlHeader+diagMessage || !bytes.Contains(b, []byte{0xc3, 0x50, 0x1f, 0x90})) {
			t.Errorf("%x is an answer about other ports, or none", b)
		}
	})
}
