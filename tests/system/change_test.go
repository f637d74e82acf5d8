package system

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// A heard is what a program has printed so far.
type heard struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.Write(p)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.String()
}

// A liveRun is a command under way.
type liveRun struct {
	*lab.Process
	t              *testing.T
	name           string
	stdin          io.WriteCloser // stays open
	stdout, stderr heard
}

// live starts a program where the person is.
func (b *bastion) live(home, program string, args ...string) *liveRun {
	b.t.Helper()
	r := &liveRun{t: b.t, name: strings.Join(args, " ")}
	cmd := b.Client.Command(context.Background(), program, args...)
	cmd.Env = b.environ(home)
	cmd.Stdout, cmd.Stderr = &r.stdout, &r.stderr
	in, ours, err := os.Pipe() // without a copying goroutine, which would outlive the program
	if err != nil {
		b.t.Fatal(err)
	}
	defer in.Close()
	cmd.Stdin, r.stdin = in, ours
	b.t.Cleanup(func() { ours.Close() })
	r.Process = lab.Start(b.t, cmd)
	return r
}

// flow is a live flow of the person's command, which has heard the target.
func (b *bastion) flow(home, transport, target string) *liveRun {
	b.t.Helper()
	r := b.live(home, b.bin+"/sallyport", "--transport", transport, "proxy", target)
	b.eventually(10*time.Second, "the flow stands", func() error {
		if !strings.HasPrefix(r.stdout.String(), "SSH-2.0-") {
			return fmt.Errorf("stdout %q, stderr %q", r.stdout.String(), r.stderr.String())
		}
		return nil
	})
	return r
}

// sshsOwn is what ssh itself says when its connection ends: as it was reading, or as it was writing.
var sshsOwn = regexp.MustCompile(`(?m)^(Connection to db-1 closed by remote host\.|client_loop: send disconnect: Broken pipe)\r\n`)

// ends waits until the run is over, and checks how.
func (r *liveRun) ends(limit time.Duration, m mistake) {
	r.t.Helper()
	begin := time.Now()
	select {
	case <-r.Done():
	case <-time.After(limit):
		r.t.Errorf("%s: %q lives after %v; stderr %q", m.row, r.name, limit, r.stderr.String())
		return
	}
	ours := sshsOwn.ReplaceAllString(r.stderr.String(), "")
	if exit := r.ProcessState.ExitCode(); exit != m.exit || !m.says.MatchString(ours) {
		r.t.Errorf("%s: %q: exit %d, stderr %q\nwant exit %d and %s", m.row, r.name, exit, r.stderr.String(), m.exit, m.says)
	}
	r.t.Logf("%s: %q after %v:\n%s", m.row, r.name, time.Since(begin).Round(time.Millisecond), r.stderr.String())
}

func (r *liveRun) lives() {
	r.t.Helper()
	select {
	case <-r.Done():
		r.t.Errorf("%q has ended: %s", r.name, r.stderr.String())
	default:
	}
}

func (b *bastion) signal(sig syscall.Signal) {
	b.t.Helper()
	if err := b.daemon.Process.Signal(sig); err != nil {
		b.t.Fatal(err)
	}
}

// TestDrain: asked to stop, the appliance tells people, opens nothing new, lets flows go on for the grace, then ends
// what is left and says so, and ends itself.
func TestDrain(t *testing.T) {
	b := start(t, settings{grace: "3s"})
	var shells, flows []*liveRun
	for _, transport := range transports {
		flows = append(flows, b.flow(b.home, transport, "db-1"))
		shells = append(shells, b.live(b.home, "ssh", append(b.sshOptions(transport), "root@db-1", "while echo tick; do sleep 0.05; done")...))
	}
	ticks := func(r *liveRun, more int) {
		t.Helper()
		before := len(r.stdout.String())
		b.eventually(5*time.Second, "the shell goes on", func() error {
			if len(r.stdout.String()) < before+more*len("tick\n") {
				return fmt.Errorf("stderr %q", r.stderr.String())
			}
			return nil
		})
	}
	for _, r := range shells {
		ticks(r, 1)
	}
	b.signal(syscall.SIGTERM)
	begin := time.Now()
	for _, r := range append(shells, flows...) {
		b.eventually(2*time.Second, "the person is told", func() error {
			if got, want := r.stderr.String(), "sallyport: the appliance stops in 3s; finish or reconnect later\n"; got != want {
				return fmt.Errorf("%q says %q", r.name, got)
			}
			return nil
		})
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("people were told after %v", took)
	}
	for _, transport := range transports {
		b.wrong(mistake{"a new flow", nil, 16, says("the appliance is stopping and opens no new flows", "hint: try again in a moment")}, b.client("--transport", transport, "proxy", "db-1"))
	}
	if r := b.inClient(b.home, "", "curl", "-sk", "-w", "%{http_code}", "https://10.77.2.2/readyz"); r.stdout != "draining\n503" {
		t.Errorf("readyz: %v", r)
	}
	for _, r := range shells {
		ticks(r, 3)
	}
	ended := says("the appliance stops in 3s; finish or reconnect later", "the appliance is stopping", "hint: connect again in a moment")
	for _, r := range flows {
		r.ends(6*time.Second, mistake{"after the grace", nil, 16, ended})
	}
	if took := time.Since(begin); took < 2900*time.Millisecond || took > 6*time.Second {
		t.Errorf("the grace of 3s took %v", took)
	}
	for _, r := range shells {
		r.ends(6*time.Second, mistake{"ssh after the grace", nil, 255, ended})
	}
	select {
	case <-b.daemon.Done():
		if err := b.daemon.Wait(); err != nil {
			t.Errorf("the daemon: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the daemon does not end")
	}
	b.serve()
	if r := b.client("ls"); r.exit != 0 {
		t.Errorf("started again: %v", r)
	}
}

// TestReload is row 52: a file that is wrong changes nothing and is explained; one that takes a right away ends what stood
// on it, at once; a revoked device's flows end; and a worker's death is told.
func TestReload(t *testing.T) {
	b := start(t, settings{})
	bob := filepath.Join(b.Dir, "bob")
	b.enrol("bob", bob)
	both := strings.ReplaceAll(usualAccess, "who: [ann]", "who: [ann, bob]")
	b.access(both)
	var anns, bobs []*liveRun
	for _, transport := range transports {
		anns, bobs = append(anns, b.flow(b.home, transport, "db-1")), append(bobs, b.flow(bob, transport, "db-6"))
	}

	b.write("access.yaml", "admins: [ann]\nrules:\n  - {name: wrong, who: [ann], targets: [db-1], protocols: [telnet]}\n  - {nam: wrong}\n")
	b.logged(`msg="the access file is not taken, the old one stays"`)
	for _, place := range []string{"access.yaml:3:", "access.yaml:4:6: "} {
		b.logged(place)
	}
	if r := b.client("ls"); r.exit != 0 || !strings.Contains(r.stdout, "db-1") {
		t.Errorf("with a broken file: %v", r)
	}
	if r := b.inClient(b.home, "", "curl", "-sk", "-w", "%{http_code}", b.url+"/readyz"); r.stdout != "ready\n200" {
		t.Errorf("readiness with a broken file: %v", r)
	}
	b.access(both)
	taken := strings.Count(b.daemon.Output(), "access file taken")
	b.signal(syscall.SIGHUP)
	b.eventually(5*time.Second, "the files are read again", func() error {
		if strings.Count(b.daemon.Output(), "access file taken") == taken {
			return errors.New("the log says nothing")
		}
		return nil
	})
	for _, r := range append(anns, bobs...) {
		r.lives()
	}

	// A file that is being written, and empty for the moment, takes nobody's rights away.
	for range 50 {
		b.write("access.yaml", "")
		time.Sleep(20 * time.Millisecond)
		b.write("access.yaml", both)
		b.signal(syscall.SIGHUP)
	}
	for _, r := range append(anns, bobs...) {
		r.lives()
	}

	// bob loses his right, ann keeps hers.
	b.access(usualAccess)
	for _, r := range bobs {
		r.ends(time.Second, mistake{"right removed", nil, 11, says(`the rules have changed: no target "db-6" that you may use`, "hint: sallyport ls shows the targets that you may use")})
	}
	for _, r := range anns {
		r.lives()
	}
	b.access(both)

	bobs = bobs[:0]
	for _, transport := range transports {
		bobs = append(bobs, b.flow(bob, transport, "db-1"))
	}
	if r := b.client("admin", "devices", "revoke", b.device(bob)); r.exit != 0 {
		t.Fatalf("revoke: %v", r)
	}
	for _, r := range bobs {
		r.ends(time.Second, mistake{"device revoked", nil, 10, says("this device has been revoked", "hint: ask an administrator; a new enrolment needs sallyport logout first")})
	}
	for _, r := range anns {
		r.lives()
	}

	// The kernel tells who came by HTTPS. By QUIC the next worker does, when it hears of a connection that it does not
	// know; who says nothing hears of it when the connection's silence ends it, after 30 seconds.
	kill(t, b.worker())
	begin := time.Now()
	b.eventually(20*time.Second, "the person who types is told", func() error {
		for _, r := range anns {
			io.WriteString(r.stdin, "SSH-2.0-somebody who types and types\r\n")
			select {
			case <-r.Done():
			default:
				return fmt.Errorf("%q lives", r.name)
			}
		}
		return nil
	})
	t.Logf("told after %v", time.Since(begin))
	for i, r := range anns {
		r.ends(time.Second, mistake{"worker killed, " + transports[i], nil, 17, says("the appliance does not know this flow any more; it may have been restarted", "hint: connect again")})
	}
	b.eventually(5*time.Second, "it serves again", func() error {
		if r := b.client("ls"); r.exit != 0 {
			return errors.New(r.String())
		}
		return nil
	})
}
