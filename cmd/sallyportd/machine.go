package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
)

// A machine is one of the demo's targets: an SSH server in this process that runs a shell of the invoking user, whatever
// user a certificate of an authority that it trusts is for.
type machine struct {
	name   string
	config *ssh.ServerConfig
	host   ssh.PublicKey
	shell  *user.User

	mu          sync.Mutex
	authorities []ssh.PublicKey
	conns       map[net.Conn]struct{}
	wg          sync.WaitGroup
}

func newMachine(name string) (*machine, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	host, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, err
	}
	shell, err := user.Current()
	if err != nil {
		return nil, err
	}
	m := &machine{name: name, host: host.PublicKey(), shell: shell, conns: map[net.Conn]struct{}{}}
	checker := &ssh.CertChecker{IsUserAuthority: m.trusts}
	m.config = &ssh.ServerConfig{PublicKeyCallback: checker.Authenticate}
	m.config.AddHostKey(host)
	return m, nil
}

// trust has the machine accept certificates of these authorities, as TrustedUserCAKeys in sshd_config does.
func (m *machine) trust(authorities []ssh.PublicKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.authorities = authorities
}

func (m *machine) trusts(authority ssh.PublicKey) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.authorities, func(a ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), authority.Marshal()) })
}

// serve accepts on l until it is closed, and returns when all connections have ended.
func (m *machine) serve(l net.Listener) {
	defer m.wg.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			m.closeAll()
			return
		}
		m.mu.Lock()
		m.conns[c] = struct{}{}
		m.mu.Unlock()
		m.wg.Go(func() { m.conn(c) })
	}
}

func (m *machine) closeAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		c.Close()
	}
}

func (m *machine) conn(c net.Conn) {
	defer func() {
		c.Close()
		m.mu.Lock()
		delete(m.conns, c)
		m.mu.Unlock()
	}()
	conn, channels, requests, err := ssh.NewServerConn(c, m.config)
	if err != nil {
		return
	}
	defer conn.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { ssh.DiscardRequests(requests) })
	for offered := range channels {
		if offered.ChannelType() != "session" {
			offered.Reject(ssh.UnknownChannelType, "a demo machine has shells only")
			continue
		}
		channel, requests, err := offered.Accept()
		if err != nil {
			return
		}
		wg.Go(func() { m.session(channel, requests) })
	}
}

// session runs one shell or command (RFC 4254 §6).
func (m *machine) session(channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	var terminal *window
	var resize chan pty.Winsize
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, hangUp := context.WithCancel(context.Background()) // whoever was connected has gone
	defer hangUp()
	for r := range requests {
		ok := false
		switch r.Type {
		case "pty-req":
			terminal = new(window)
			ok = ssh.Unmarshal(r.Payload, terminal) == nil
			resize = make(chan pty.Winsize, 1)
		case "window-change":
			var w changed
			if ok = resize != nil && ssh.Unmarshal(r.Payload, &w) == nil; ok {
				select {
				case <-resize: // the latest size counts
				default:
				}
				resize <- pty.Winsize{Cols: uint16(w.Columns), Rows: uint16(w.Rows)}
			}
		case "shell", "exec", "subsystem":
			var ask struct{ Command string }
			ok = r.Type == "shell" || ssh.Unmarshal(r.Payload, &ask) == nil
			if ok && r.Type == "subsystem" {
				ask.Command, ok = subsystem(ask.Command)
			}
			if ok {
				wg.Go(func() {
					status := m.run(ctx, channel, ask.Command, terminal, resize)
					channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
					channel.Close()
				})
			}
		}
		if r.WantReply {
			r.Reply(ok, nil)
		}
	}
}

// subsystem is the program of an SSH subsystem: sftp's, which scp uses too, where this computer has it.
func subsystem(name string) (command string, ok bool) {
	for _, path := range []string{"/usr/lib/openssh/sftp-server", "/usr/lib/ssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server"} {
		if _, err := os.Stat(path); name == "sftp" && err == nil {
			return path, true
		}
	}
	return "", false
}

// window and changed are the payloads of pty-req and window-change.
type window struct {
	Term                         string
	Columns, Rows, Width, Height uint32
	Modes                        string
}

type changed struct{ Columns, Rows, Width, Height uint32 }

// run runs command, or a login shell if it is empty, and returns its exit status. The end of ctx ends it.
func (m *machine) run(ctx context.Context, channel ssh.Channel, command string, terminal *window, resize <-chan pty.Winsize) uint32 {
	shell := os.Getenv("SHELL")
	if shell == "" {
		shell = "/bin/sh"
	}
	cmd := exec.Command(shell, "-c", command)
	if command == "" {
		cmd = exec.Command(shell)
	}
	if cmd.Dir = m.shell.HomeDir; !isFolder(cmd.Dir) {
		cmd.Dir = "/" // as login does
	}
	cmd.Env = []string{"HOME=" + m.shell.HomeDir, "USER=" + m.shell.Username, "PATH=" + os.Getenv("PATH"), "SALLYPORT_DEMO=" + m.name,
		"LANG=" + cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LANG"), "C.UTF-8"), "PS1=" + m.name + "$ "}
	if terminal == nil {
		return status(m.pipes(ctx, cmd, channel))
	}
	cmd.Env = append(cmd.Env, "TERM="+terminal.Term)
	if command == "" {
		fmt.Fprintf(channel, "This is %s, a target of the demo: a shell of %s on the computer where the demo runs.\r\n", m.name, m.shell.Username)
	}
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: uint16(terminal.Columns), Rows: uint16(terminal.Rows)})
	if err != nil {
		return status(err)
	}
	defer f.Close()
	defer endWith(ctx, cmd)()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case w := <-resize:
				pty.Setsize(f, &w)
			case <-done:
				return
			}
		}
	})
	go io.Copy(f, channel)
	io.Copy(channel, f) // ends with EIO when the shell has gone
	err = cmd.Wait()
	close(done)
	wg.Wait()
	return status(err)
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// endWith hangs up on cmd and all that it has started when ctx ends, and makes sure a moment later.
func endWith(ctx context.Context, cmd *exec.Cmd) (stop func() bool) {
	return context.AfterFunc(ctx, func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGHUP)
		time.Sleep(300 * time.Millisecond)
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	})
}

func (m *machine) pipes(ctx context.Context, cmd *exec.Cmd, channel ssh.Channel) error {
	cmd.Stdout, cmd.Stderr = channel, channel.Stderr()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer endWith(ctx, cmd)()
	go func() {
		io.Copy(in, channel)
		in.Close()
	}()
	err = cmd.Wait()
	channel.CloseWrite()
	return err
}

func status(err error) uint32 {
	if err == nil {
		return 0
	}
	if x, ok := err.(*exec.ExitError); ok && x.ExitCode() >= 0 {
		return uint32(x.ExitCode())
	}
	return 255
}
