package client

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestOwnerOf(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1001        0 2 1 0 20 4 30 10 -1
   2: 0000000000000000FFFF00000100007F:C351 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 00:00000000 00000000  1002        0 2 1
   3: 00000000000000000000000001000000:C350 00000000000000000000000001000000:1F90 01 00000000:00000000 00:00000000 00000000  1003        0 2 1
   4: 0100007F:C353 0100007F:1F90 06 00000000:00000000 03:00000176 00000000     0        0 0 3
   5: 0100007F:C354 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0
`
	for from, want := range map[string]int{"127.0.0.1:50000": 1001, "127.0.0.1:50001": 1002, "[::1]:50000": 1003, "127.0.0.1:50002": 0,
		"127.0.0.1:50003": 0, "127.0.0.1:50004": 0} {
		peer := netip.MustParseAddrPort(from)
		uid, err := ownerOf(strings.NewReader(table), peer, netip.AddrPortFrom(peer.Addr(), 8080))
		if uid != want || (err != nil) != (want == 0) {
			t.Errorf("%s: got %d, %v", from, uid, err)
		}
	}
}

// A connection of another user is refused before anything is read from it.
func TestOtherUser(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil || os.Getuid() != 0 {
		t.Skip("needs bash, and root to become somebody else")
	}
	l, err := ListenLocal(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	tunnel := Tunnel{Failed: func(err error) { failed <- err }} // without a Dialer: it must not be asked
	done := make(chan error)
	go func() { done <- tunnel.Serve(t.Context(), l) }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	cmd := exec.Command(bash, "-c", "exec 3<>/dev/tcp/127.0.0.1/"+port+"; read <&3")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Run() // read fails: the connection is closed
	select {
	case err := <-failed:
		if f := Explain(err); f.Code != "E_DENIED" {
			t.Errorf("got %+v", f)
		}
	case <-time.After(10 * time.Second):
		t.Error("the connection of another user was served")
	}
	l.Close()
	<-done
}
