package lab

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// keepOutput is how much of a process's output is kept: enough for a failure, not for a runaway log.
const keepOutput = 256 << 10

// A Process runs in the background until it is stopped or the test ends.
type Process struct {
	*exec.Cmd
	done   chan struct{}
	err    error
	output tail
}

// Start starts cmd in the background, in a process group of its own. What it prints is kept and shown if the test fails;
// what still runs when the test ends is killed.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{Cmd: cmd, done: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.output
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &p.output
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if cmd.Cancel != nil { // made with a context, whose end is to reach the group too
		cmd.Cancel = p.kill
	}
	cmd.WaitDelay = time.Second // a grandchild may hold the output open
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Args, err)
	}
	go p.wait()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("%s: %v\n%s", strings.Join(cmd.Args, " "), p.err, p.Output())
		}
	})
	return p
}

func (p *Process) wait() {
	defer close(p.done)
	p.err = p.Cmd.Wait()
}

// Wait waits for the end of the process and returns what exec.Cmd.Wait said.
func (p *Process) Wait() error {
	<-p.done
	return p.err
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Terminate asks the process to end with SIGTERM, and kills it if it does not within the limit.
func (p *Process) Terminate(limit time.Duration) {
	p.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(limit):
		p.Stop()
	}
}

// Stop kills the process and its group and waits for the end.
func (p *Process) Stop() {
	p.kill()
	<-p.done
}

// kill ends the group while the process has not been waited for, so that the id is still its own.
func (p *Process) kill() error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
		return syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
	}
}

// Output is what the process has printed so far, on stdout and stderr, the last of it if it was much.
func (p *Process) Output() string { return p.output.String() }

// A tail is a writer that remembers the last keepOutput bytes.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (o *tail) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b = append(o.b, p...)
	if over := len(o.b) - keepOutput; over > 0 {
		o.b = append(o.b[:0], o.b[over:]...)
	}
	return len(p), nil
}

func (o *tail) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.b)
}

// waitFor polls until ok, and fails the test with what after the limit.
func waitFor(t testing.TB, limit time.Duration, what string, ok func(context.Context) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for !ok(ctx) {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v", what, limit)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
