package lab

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// SSHDOptions says how a target's OpenSSH server differs from the usual one.
type SSHDOptions struct {
	Port   uint16   // default 22
	Config []string // lines that come before the lab's own, so that they win

	Password bool // let in a user of its own by a password
}

// An SSHD is a running OpenSSH server that lets its user in with the key in KeyFile.
type SSHD struct {
	Addr    netip.AddrPort // the first address of the namespace; it listens on all
	User    string
	HostKey string // "ssh-ed25519 AAAA…", what follows the name in a known_hosts file
	KeyFile string // the client's private key
	Process *Process

	PasswordUser, Password string // of this machine, removed with the lab; empty without the option
}

// SSHD starts a real OpenSSH server in a namespace and waits until it answers.
func (l *Lab) SSHD(n *Namespace, o SSHDOptions) *SSHD {
	l.t.Helper()
	dir := l.dir("sshd")
	s := &SSHD{User: "root", KeyFile: filepath.Join(dir, "client_key")}
	if o.Port == 0 {
		o.Port = 22
	}
	s.Addr = netip.AddrPortFrom(n.addr(), o.Port)
	hostKey := filepath.Join(dir, "host_key")
	authorized := filepath.Join(dir, "authorized_keys")
	s.HostKey = l.sshKey(hostKey)
	l.write(authorized, l.sshKey(s.KeyFile)+"\n")
	if o.Password {
		s.PasswordUser, s.Password = fmt.Sprintf("%s-bob%d", l.id, o.Port), rand.Text()
		l.addUser(s.PasswordUser, s.Password)
		o.Config = append(o.Config, "PasswordAuthentication yes")
	}
	config := filepath.Join(dir, "sshd_config")
	l.write(config, strings.Join(append(o.Config,
		"SetEnv HOME="+dir, // what the account's own shell does at its start takes as long as it likes
		fmt.Sprintf("Port %d", o.Port),
		"ListenAddress 0.0.0.0",
		"ListenAddress ::",
		"HostKey "+hostKey,
		"AuthorizedKeysFile "+authorized,
		"StrictModes no",
		"PermitRootLogin prohibit-password",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"UsePAM no",
		"UseDNS no",
		"AllowTcpForwarding yes",
		"PermitTunnel no",
		"X11Forwarding no",
		"PrintMotd no",
		"MaxStartups 1000",
		"MaxSessions 1000",
		"LogLevel VERBOSE",
		"PidFile none",
		"Subsystem sftp internal-sftp",
	), "\n")+"\n")
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd's empty directory, made by its service otherwise
		l.t.Fatal(err)
	}
	s.Process = Start(l.t, n.Command(context.Background(), "/usr/sbin/sshd", "-D", "-e", "-f", config))
	l.waitPort(n, s.Addr, s.Process)
	return s
}

// KnownHosts writes a known_hosts file in which the names stand for this server, and returns its path.
func (s *SSHD) KnownHosts(l *Lab, names ...string) string {
	l.t.Helper()
	path := filepath.Join(l.dir("known"), "known_hosts")
	l.write(path, strings.Join(names, ",")+" "+s.HostKey+"\n")
	return path
}

// sshKey writes a new private key to path and returns the public one as a line without its end.
func (l *Lab) sshKey(path string) string {
	l.t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "lab")
	if err != nil {
		l.t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		l.t.Fatal(err)
	}
	l.write(path, string(pem.EncodeToMemory(block)))
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// dir makes a new directory for one server's files.
func (l *Lab) dir(name string) string {
	l.t.Helper()
	dir, err := os.MkdirTemp(l.Dir, name+"-")
	if err != nil {
		l.t.Fatal(err)
	}
	return dir
}

func (l *Lab) write(path, content string) {
	l.t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

// waitPort waits until a server in the namespace accepts connections, or has ended.
func (l *Lab) waitPort(n *Namespace, addr netip.AddrPort, p *Process) {
	l.t.Helper()
	waitFor(l.t, 20*time.Second, "listening on "+addr.String(), func(ctx context.Context) bool {
		select {
		case <-p.Done():
			l.t.Fatalf("%s ended: %v", p.Args, p.Wait())
		default:
		}
		c, err := n.DialContext(ctx, "tcp", addr.String())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}
