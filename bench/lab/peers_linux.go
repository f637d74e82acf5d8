package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/bench"
)

// All encrypt with AES-128-GCM, as Sallyport does on such a machine, and have their distribution's sizes of buffers.
const suite = "TLS_AES_128_GCM_SHA256"

const loopback = "127.0.0.1"

func at(host string, port any) string { return fmt.Sprintf("%s:%v", host, port) }

// references are the ways without a gateway: what the machine's kernel does.
func references() []*candidate {
	return []*candidate{
		{Candidate: bench.Candidate{Name: bench.Direct, Kind: bench.Reference, Says: "the target itself, by a gateway's kernel that routes; cubic"},
			address: at(targetDirect, loadPort)},
		{Candidate: bench.Candidate{Name: "direct-bbr", Kind: bench.Reference, Says: "the same with BBR at both ends"},
			address: at(targetDirect, bbrPort), congestion: "bbr"},
	}
}

// peers are the programs of others.
func peers() []*candidate {
	return []*candidate{
		{Candidate: bench.Candidate{Name: "nginx", Kind: bench.Replaced, Says: "nginx forwards a port, without TLS"},
			programs: []string{"nginx"}, prepare: nginxPlain},
		{Candidate: bench.Candidate{Name: "ssh-J", Kind: bench.Replaced, Says: "ssh -J by a jump box to the target's own sshd, which forwards a port"},
			programs: []string{"ssh", "sshd"}, prepare: sshJump},
		{Candidate: bench.Candidate{Name: "nginx-tls", Kind: bench.Peer, Says: "nginx forwards a port; TLS 1.3 between one nginx at the client and one at the gateway"},
			programs: []string{"nginx"}, prepare: nginxTLS},
		{Candidate: bench.Candidate{Name: "haproxy-tls", Kind: bench.Peer, Says: "the same with haproxy"},
			programs: []string{"haproxy"}, prepare: haproxyTLS},
		{Candidate: bench.Candidate{Name: "ssh-L", Kind: bench.Peer, Says: "ssh -L by the gateway's sshd, aes128-gcm"},
			programs: []string{"ssh", "sshd"}, prepare: sshForward},
		{Candidate: bench.Candidate{Name: "stunnel", Kind: bench.Peer, Says: "stunnel at both ends"},
			programs: []string{"stunnel4|stunnel"}, prepare: stunnel},
		{Candidate: bench.Candidate{Name: "wireguard-go", Kind: bench.Peer, Says: "wireguard-go at both ends, a TUN each; the gateway's kernel routes"},
			prepare: wireguard},
	}
}

// write writes a candidate's file and returns its path.
func write(dir, name, content string) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, []byte(content), 0o600)
}

// nginxConfig is an nginx that forwards a port.
func nginxConfig(l *lab, dir, name, server string) (string, error) {
	module := "/usr/lib/nginx/modules/ngx_stream_module.so" // Debian's package; elsewhere it is built in
	load := "load_module " + module + ";\n"
	if _, err := os.Stat(module); err != nil {
		load = ""
	}
	return write(dir, name, load+fmt.Sprintf(`daemon off;
worker_processes auto;
worker_rlimit_nofile %d;
error_log stderr warn;
pid %s.pid;
events { worker_connections %d; }
stream {
    server {
%s
    }
}
`, l.files, filepath.Join(dir, name), l.files-100, server))
}

func nginxCommand(at *space, config, listens string) command {
	return command{at: at, args: []string{findProgram("nginx"), "-e", "stderr", "-c", config}, listens: listens}
}

func nginxPlain(_ context.Context, l *lab, c *candidate) error {
	dir, err := l.folder(c.Name)
	if err != nil {
		return err
	}
	c.address = at(gatewayService, l.port())
	config, err := nginxConfig(l, dir, "gateway", "listen "+c.address+";\nproxy_pass "+at(targetDirect, loadPort)+";")
	c.gateway = []command{nginxCommand(l.gateway, config, c.address)}
	return err
}

func nginxTLS(_ context.Context, l *lab, c *candidate) error {
	dir, err := l.folder(c.Name)
	if err != nil {
		return err
	}
	cert, key, _, err := certificate(dir)
	if err != nil {
		return err
	}
	far := at(gatewayService, l.port())
	c.address = at(loopback, l.port())
	gateway, err := nginxConfig(l, dir, "gateway", fmt.Sprintf(`listen %s ssl;
ssl_certificate %s;
ssl_certificate_key %s;
ssl_protocols TLSv1.3;
ssl_conf_command Ciphersuites %s;
proxy_pass %s;`, far, cert, key, suite, at(targetDirect, loadPort)))
	if err != nil {
		return err
	}
	client, err := nginxConfig(l, dir, "client", fmt.Sprintf(`listen %s;
proxy_pass %s;
proxy_ssl on;
proxy_ssl_protocols TLSv1.3;
proxy_ssl_conf_command Ciphersuites %s;`, c.address, far, suite))
	c.gateway = []command{nginxCommand(l.gateway, gateway, far)}
	c.client = []command{nginxCommand(l.client, client, "")}
	return err
}

func haproxyTLS(_ context.Context, l *lab, c *candidate) error {
	dir, err := l.folder(c.Name)
	if err != nil {
		return err
	}
	_, _, both, err := certificate(dir)
	if err != nil {
		return err
	}
	far := at(gatewayService, l.port())
	c.address = at(loopback, l.port())
	config := func(name, bind, server string) (string, error) {
		return write(dir, name, fmt.Sprintf(`global
    maxconn %d
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-bind-ciphersuites %s
    ssl-default-server-ciphersuites %s
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen bench
    bind %s
    server far %s
`, l.files/2-100, suite, suite, bind, server))
	}
	gateway, err := config("gateway", far+" ssl crt "+both, at(targetDirect, loadPort))
	if err != nil {
		return err
	}
	client, err := config("client", c.address, far+" ssl verify none")
	program := findProgram("haproxy")
	c.gateway = []command{{at: l.gateway, args: []string{program, "-db", "-f", gateway}, listens: far}}
	c.client = []command{{at: l.client, args: []string{program, "-db", "-f", client}}}
	return err
}

func stunnel(_ context.Context, l *lab, c *candidate) error {
	dir, err := l.folder(c.Name)
	if err != nil {
		return err
	}
	cert, key, _, err := certificate(dir)
	if err != nil {
		return err
	}
	far := at(gatewayService, l.port())
	c.address = at(loopback, l.port())
	config := func(name, accept, connect, more string) (string, error) {
		return write(dir, name, fmt.Sprintf(`foreground = yes
pid =
debug = err
sslVersionMin = TLSv1.3
ciphersuites = %s
[bench]
accept = %s
connect = %s
%s
`, suite, accept, connect, more))
	}
	gateway, err := config("gateway", far, at(targetDirect, loadPort), "cert = "+cert+"\nkey = "+key)
	if err != nil {
		return err
	}
	client, err := config("client", c.address, far, "client = yes")
	program := findProgram("stunnel4|stunnel")
	c.gateway = []command{{at: l.gateway, args: []string{program, gateway}, listens: far}}
	c.client = []command{{at: l.client, args: []string{program, client}}}
	return err
}

// sshServer writes what an OpenSSH server in a namespace needs, and returns the command and its line for known_hosts.
func sshServer(s *space, dir, name, address, authorized string) (command, string, error) {
	key := filepath.Join(dir, name+"_key")
	public, err := sshKey(key)
	if err != nil {
		return command{}, "", err
	}
	host, port, _ := strings.Cut(address, ":")
	config, err := write(dir, name, fmt.Sprintf(`Port %s
ListenAddress %s
HostKey %s
AuthorizedKeysFile %s
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
AllowTcpForwarding yes
PrintMotd no
LogLevel ERROR
PidFile none
`, port, host, key, authorized))
	if err != nil {
		return command{}, "", err
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd's empty folder, made by its service otherwise
		return command{}, "", err
	}
	return command{at: s, args: []string{findProgram("sshd"), "-D", "-e", "-f", config}, listens: address}, name + " " + public + "\n", nil
}

// sshClient writes a configuration in which the servers have names.
func sshClient(dir, known string, hosts string) (string, error) {
	path, err := write(dir, "known_hosts", known)
	if err != nil {
		return "", err
	}
	return write(dir, "config", fmt.Sprintf(`%s
Host *
    User root
    IdentityFile %s
    IdentitiesOnly yes
    BatchMode yes
    LogLevel ERROR
    Ciphers aes128-gcm@openssh.com
    GlobalKnownHostsFile none
    UserKnownHostsFile %s
    StrictHostKeyChecking yes
    ExitOnForwardFailure yes
`, hosts, filepath.Join(dir, "client_key"), path))
}

func sshForward(_ context.Context, l *lab, c *candidate) error {
	dir, authorized, err := sshFolder(l, c.Name)
	if err != nil {
		return err
	}
	far := at(gatewayService, l.port())
	_, port, _ := strings.Cut(far, ":")
	server, known, err := sshServer(l.gateway, dir, "gateway", far, authorized)
	if err != nil {
		return err
	}
	config, err := sshClient(dir, known, fmt.Sprintf("Host gateway\n    HostName %s\n    Port %s\n    HostKeyAlias gateway", gatewayService, port))
	c.address = at(loopback, l.port())
	c.gateway = []command{server}
	c.client = []command{{at: l.client, args: []string{findProgram("ssh"), "-F", config, "-N", "-L", c.address + ":" + at(targetDirect, loadPort), "gateway"}}}
	return err
}

func sshJump(_ context.Context, l *lab, c *candidate) error {
	dir, authorized, err := sshFolder(l, c.Name)
	if err != nil {
		return err
	}
	jumpPort, targetPort := l.port(), l.port()
	jump, knownJump, err := sshServer(l.gateway, dir, "jump", at(gatewayService, jumpPort), authorized)
	if err != nil {
		return err
	}
	target, knownTarget, err := sshServer(l.target, dir, "target", at(targetDirect, targetPort), authorized)
	if err != nil {
		return err
	}
	config, err := sshClient(dir, knownJump+knownTarget, fmt.Sprintf(`Host jump
    HostName %s
    Port %d
    HostKeyAlias jump
Host target
    HostName %s
    Port %d
    HostKeyAlias target
    ProxyJump jump`, gatewayService, jumpPort, targetDirect, targetPort))
	c.address = at(loopback, l.port())
	c.gateway, c.beyond = []command{jump}, []command{target}
	c.client = []command{{at: l.client, args: []string{findProgram("ssh"), "-F", config, "-N", "-L", c.address + ":" + at(loopback, loadPort), "target"}}}
	return err
}

// sshFolder makes the client's key and the file that lets it in.
func sshFolder(l *lab, name string) (dir, authorized string, err error) {
	if dir, err = l.folder(name); err != nil {
		return "", "", err
	}
	public, err := sshKey(filepath.Join(dir, "client_key"))
	if err != nil {
		return "", "", err
	}
	authorized, err = write(dir, "authorized_keys", public+"\n")
	return dir, authorized, err
}

// sshKey writes a new private key to path and returns the public one as a line without its end.
func sshKey(path string) (string, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	block, err := ssh.MarshalPrivateKey(private, "bench")
	if err != nil {
		return "", err
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))), os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

// certificate makes a self-signed one, in the two forms that programs want.
func certificate(dir string) (cert, key, both string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", "", err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, DNSNames: []string{"bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return "", "", "", err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", "", err
	}
	certText := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	keyText := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	for _, f := range []struct {
		path       *string
		name, text string
	}{{&cert, "cert.pem", certText}, {&key, "key.pem", keyText}, {&both, "both.pem", certText + keyText}} {
		if *f.path, err = write(dir, f.name, f.text); err != nil {
			return "", "", "", err
		}
	}
	return cert, key, both, nil
}
