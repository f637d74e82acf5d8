package system

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestBulkMoves: a flow that moves much is measured on HTTPS, and status shows whether it stayed there. A person may say
// that it should not.
func TestBulkMoves(t *testing.T) {
	for _, agent := range []bool{false, true} {
		t.Run(fmt.Sprintf("agent %v", agent), func(t *testing.T) {
			b := start(t, settings{})
			if agent {
				b.withAgent()
			}
			ssh := b.pouring()
			var status string
			b.eventually(20*time.Second, "status says what was decided", func() error {
				status = b.client("status").stdout
				if !strings.Contains(status, "moved to https ") && !strings.Contains(status, "moved back to quic ") {
					return fmt.Errorf("%s\nssh: %s", status, ssh.stderr.String())
				}
				return nil
			})
			time.Sleep(6 * time.Second) // it is decided once, two to four seconds after the move
			if status = b.client("status").stdout; strings.Count(b.daemon.Output(), "why=bulk") != 1 {
				t.Errorf("the flow was moved more than once:\n%s", b.daemon.Output())
			}
			t.Log(status)
			stayed := strings.Contains(status, "moved to https ")
			if back := strings.Count(b.daemon.Output(), "why=slower"); stayed == (back > 0) {
				t.Errorf("stayed: %v, went back %d times", stayed, back)
			}
			ssh.lives()
		})
	}
	t.Run("kept", func(t *testing.T) {
		t.Setenv("SALLYPORT_KEEP_TRANSPORT", "1")
		b := start(t, settings{})
		ssh := b.pouring()
		time.Sleep(5 * time.Second)
		flows := b.flows()
		if len(flows) == 1 && flows[0].Down < 5*16<<20 {
			t.Fatalf("the flow moves too little to be moved: %+v", flows)
		}
		if len(flows) != 1 || flows[0].Transport != "quic" || flows[0].Attached != 1 {
			t.Errorf("the flow is %+v; ssh %q", flows, ssh.stderr.String())
		}
		ssh.lives()
	})
}

// pouring is an ssh that brings zeros without end.
func (b *bastion) pouring() *liveRun {
	b.t.Helper()
	return b.live(b.home, "sh", append([]string{"-c", `exec ssh "$@" > /dev/null`, "ssh"}, append(b.sshOptions("auto"), "root@db-1", "cat /dev/zero")...)...)
}
