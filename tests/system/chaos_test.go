package system

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/tests/chaoslink/chaos"
)

// throughChaos enrols a person whose way to the appliance is a relay in the router that can be told to fail.
func (b *bastion) throughChaos() (link *chaos.Link, home string) {
	b.t.Helper()
	link = &chaos.Link{To: b.address, Seed: 4711, Log: b.t.Logf, Listen: b.Router.Listen, ListenPacket: b.Router.ListenPacket,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return b.Router.DialContext(ctx, network, address)
		}}
	b.t.Cleanup(func() { link.Close() })
	if _, err := link.ListenTCP("10.77.1.1:8443"); err != nil {
		b.t.Fatal(err)
	}
	if _, err := link.ListenUDP("10.77.1.1:8443"); err != nil {
		b.t.Fatal(err)
	}
	home = filepath.Join(b.Dir, "chaos")
	r := b.as(home, b.code("ann")+"\n", "login", "https://10.77.1.1:8443", "--fingerprint", b.pinned, "--code-file", "-")
	if r.exit != 0 {
		b.t.Fatalf("login: %v", r)
	}
	return link, home
}

// TestChaos: while the network is down new commands say so at once; connections that break after so many bytes, that crawl
// or change their port serve on.
func TestChaos(t *testing.T) {
	b := start(t, settings{})
	link, home := b.throughChaos()
	t.Run("cut", func(t *testing.T) {
		b := b.on(t)
		link.Do(chaos.Fault{Kind: chaos.Cut})
		r := b.as(home, "", "--transport", "https", "ls")
		if r.exit != 14 || !strings.Contains(r.stderr, "10.77.1.1:8443 was not reached") {
			t.Errorf("while it is cut: %v", r)
		}
		t.Logf("\n%s", r.stderr)
		link.Do(chaos.Fault{Kind: chaos.Pass})
	})
	t.Run("cut in the middle", func(t *testing.T) {
		b := b.on(t)
		link.Do(chaos.Fault{Kind: chaos.Cut, After: 100 << 10})
		defer link.Do(chaos.Fault{Kind: chaos.Pass})
		r := b.inClient(home, "", "ssh", append(b.sshOptions("https"), "root@db-1", "head -c 10000000 /dev/zero")...)
		if r.exit != 0 || len(r.stdout) != 10000000 || r.stderr != "" {
			t.Errorf("exit %d, %d bytes, stderr %q", r.exit, len(r.stdout), r.stderr)
		}
		if resumed := strings.Count(b.daemon.Output(), `msg="flow resumed"`); resumed < 50 {
			t.Errorf("resumed %d times", resumed)
		}
	})
	t.Run("byte by byte", func(t *testing.T) {
		b := b.on(t)
		link.Do(chaos.Fault{Kind: chaos.Drip})
		defer link.Do(chaos.Fault{Kind: chaos.Pass})
		got := b.inClient(home, "in\n", "ssh", append(b.sshOptions("https"), "root@db-1", "cat; echo err >&2; exit 9")...)
		if want := (run{"in\n", "err\n", 9}); got != want {
			t.Errorf("%v", got)
		}
	})
	t.Run("rebind", func(t *testing.T) {
		b := b.on(t)
		shell := b.live(home, "ssh", append(b.sshOptions("quic"), "root@db-1", "cat")...)
		for i := range 4 {
			line := fmt.Sprintf("line %d\n", i)
			io.WriteString(shell.stdin, line)
			b.eventually(15*time.Second, "the shell answers", func() error {
				if got := shell.stdout.String(); !strings.HasSuffix(got, line) {
					return fmt.Errorf("stdout %q, stderr %q", got, shell.stderr.String())
				}
				return nil
			})
			link.Do(chaos.Fault{Kind: chaos.Rebind})
		}
		shell.stdin.Close()
		shell.ends(15*time.Second, mistake{"after three rebinds", nil, 0, nothing})
	})
}
