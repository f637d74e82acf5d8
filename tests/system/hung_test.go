package system

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestHung: a worker that is stopped is killed, and another one serves. One that serves is left in peace while strangers
// take all places, and its self-test leaves no trace.
func TestHung(t *testing.T) {
	t.Parallel()
	b := start(t, settings{extra: "limits: {unauthenticated: 32}\n"})
	b.said("state=serving")
	worker := b.worker()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", worker))
	if err != nil || len(threads) == 0 {
		t.Fatal(threads, err)
	}
	for _, task := range threads {
		if status := readFile(t, task); !strings.Contains(status, "Seccomp:\t2\n") {
			t.Errorf("a thread of the worker may call what it likes:\n%s", status)
		}
	}
	log, written := b.daemon.Output(), b.events()
	var strangers []net.Conn
	for begin := time.Now(); time.Since(begin) < 20*time.Second; time.Sleep(100 * time.Millisecond) {
		if c, err := b.Client.DialContext(t.Context(), "tcp", b.address); err == nil {
			strangers = append(strangers, c)
		}
	}
	if now := b.daemon.Output(); now != log {
		t.Errorf("the log goes on:\n%s", strings.TrimPrefix(now, log))
	}
	if now := b.events(); now != written {
		t.Errorf("the audit log goes on: %d events, then %d", written, now)
	}
	for _, c := range strangers {
		c.Close()
	}
	if now := b.worker(); now != worker {
		t.Fatalf("worker %d was replaced by %d", worker, now)
	}

	if err := syscall.Kill(worker, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	b.eventually(time.Minute, "the appliance serves again", func() error {
		if r := b.client("--transport", "https", "ls"); r.exit != 0 {
			return fmt.Errorf("%v", r)
		}
		return nil
	})
	t.Logf("serving again after %v", time.Since(begin))
	b.said(`cause="worker hung: no answer for 15s"`)
	if again := b.worker(); again == worker {
		t.Error("the worker is the same")
	}
}

// said waits for a line in the daemon's log.
func (b *bastion) said(text string) {
	b.t.Helper()
	b.eventually(30*time.Second, "the log says "+text, func() error {
		if !strings.Contains(b.daemon.Output(), text) {
			return fmt.Errorf("the log is:\n%s", b.daemon.Output())
		}
		return nil
	})
}

// events counts the lines of the audit log that tell of something: others are heads, which it signs as time goes by.
func (b *bastion) events() (n int) {
	b.t.Helper()
	for _, line := range b.auditLines() {
		if !strings.Contains(line, `"event":"head"`) {
			n++
		}
	}
	return n
}
