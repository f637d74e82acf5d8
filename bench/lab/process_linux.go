package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// keepOutput is how much of a process's output is kept, for the message when it fails.
const keepOutput = 64 << 10

// A process runs in the background until it is stopped.
type process struct {
	*exec.Cmd
	done   chan struct{}
	err    error // of Wait, once done is closed
	output tail
}

// start starts a program in the namespace, in a process group of its own, so that Ctrl-C on a terminal is not its
// business. It dies with this program.
func (s *space) start(env []string, name string, args ...string) (*process, error) {
	return s.startCmd(&process{Cmd: exec.Command(name, args...)}, env)
}

func (s *space) startCmd(p *process, env []string) (*process, error) {
	p.done = make(chan struct{})
	p.Env = append(os.Environ(), env...)
	if p.Stdout == nil {
		p.Stdout = &p.output
	}
	if p.Stderr == nil {
		p.Stderr = &p.output
	}
	p.WaitDelay = time.Second // a grandchild may hold the output open
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.do(p.Cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Args[0], err)
	}
	go p.wait()
	return p, nil
}

func (p *process) wait() {
	defer close(p.done)
	p.err = p.Cmd.Wait()
}

// alive says so, or why not.
func (p *process) alive() error {
	select {
	case <-p.done:
		return fmt.Errorf("%s ended: %v: %s", p.Args[0], p.err, lastLines(p.output.String()))
	default:
		return nil
	}
}

// stop asks the process to end, kills its group if it does not within the limit, and waits for the end.
func (p *process) stop(limit time.Duration) {
	if p == nil {
		return
	}
	p.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(limit):
	}
	p.kill()
	<-p.done
}

// kill ends the group while the process has not been waited for, so that the id is still its own.
func (p *process) kill() {
	select {
	case <-p.done:
	default:
		syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
	}
}

// run runs a program in the namespace to its end and returns what it printed on stdout.
func (s *space) run(ctx context.Context, env []string, stdin, name string, args ...string) (string, error) {
	p := &process{Cmd: exec.Command(name, args...)}
	p.Stdin = strings.NewReader(stdin)
	var out tail
	p.Stdout = &out
	if _, err := s.startCmd(p, env); err != nil {
		return "", err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
		<-p.done
		return "", context.Cause(ctx)
	}
	if p.err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), p.err, lastLines(p.output.String()))
	}
	return out.String(), nil
}

// lastLines makes an error's text out of a program's output.
func lastLines(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], " | ")
}

// eventually tries until it succeeds, the process ends or the time is over.
func (p *process) eventually(ctx context.Context, limit time.Duration, try func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if dead := p.alive(); dead != nil {
			return dead
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("not within %v: %w", limit, err), errors.New(lastLines(p.output.String())))
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// says waits until the process has printed a text.
func (p *process) says(ctx context.Context, limit time.Duration, text string) error {
	return p.eventually(ctx, limit, func() error {
		if !strings.Contains(p.output.String(), text) {
			return fmt.Errorf("%s has not said %q", p.Args[0], text)
		}
		return nil
	})
}

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
