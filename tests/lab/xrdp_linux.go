package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// An XRDP is a Linux target whose desktop is made at login: TLS, then a PAM user and password.
type XRDP struct {
	Addr           netip.AddrPort // the first address of the namespace
	User, Password string         // of this machine, removed with the lab
	Process        *Process
}

// XRDPOptions says how an xrdp server differs from the usual one.
type XRDPOptions struct {
	Port     uint16 // default 3389
	Security string // tls, negotiate or rdp; default tls
	Program  string // a shell line that the session's terminal runs; default: shows "XRDP DESKTOP" and echoes
}

// XRDP starts xrdp and its session manager in a namespace, with a new user. They keep their sockets, and their X servers
// theirs, under fixed paths: so they have a mount namespace of their own, too, with a /run/xrdp and a /tmp.
func (l *Lab) XRDP(n *Namespace, o XRDPOptions) *XRDP {
	l.t.Helper()
	if o.Port == 0 {
		o.Port = 3389
	}
	if o.Security == "" {
		o.Security = "tls"
	}
	if o.Program == "" {
		o.Program = "echo XRDP DESKTOP; exec cat"
	}
	dir := l.dir("xrdp")
	x := &XRDP{Addr: netip.AddrPortFrom(n.addr(), o.Port), User: l.id + "-ann", Password: rand.Text()}
	home := l.addUser(x.User, x.Password)
	// xrdp loses what is painted before its client is ready, so the desktop gives it time.
	l.write(filepath.Join(home, "startwm.sh"),
		"#!/bin/sh\nopenbox &\nsleep 3\nexec xterm -fa monospace -fs 24 -maximized -e sh -c '"+o.Program+"'\n")
	cert, key, _ := l.certificate(dir, n.addr())
	server, sessions := filepath.Join(dir, "xrdp.ini"), filepath.Join(dir, "sesman.ini")
	l.write(server, fmt.Sprintf(xrdpINI, o.Port, o.Security, cert, key, filepath.Join(dir, "xrdp.log")))
	l.write(sessions, fmt.Sprintf(sesmanINI, filepath.Join(dir, "sesman.log")))
	if err := os.MkdirAll("/run/xrdp", 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(home, "startwm.sh"), 0o755); err != nil {
		l.t.Fatal(err)
	}
	x.Process = Start(l.t, n.Command(context.Background(), "unshare", "--mount", "sh", "-c",
		`mount -t tmpfs -o mode=755 xrdp /run/xrdp && mount -t tmpfs -o mode=1777 tmp /tmp && { xrdp-sesman -n -c "$1" & exec xrdp -n -c "$2"; }`, "sh", sessions, server))
	l.waitPort(n, x.Addr, x.Process)
	return x
}

const xrdpINI = `[Globals]
ini_version=1
fork=true
port=tcp://0.0.0.0:%d
security_layer=%s
certificate=%s
key_file=%s
ssl_protocols=TLSv1.2, TLSv1.3
autorun=Xorg
allow_channels=true
use_fastpath=both
bitmap_compression=true
new_cursors=true
tcp_nodelay=true
max_bpp=32

[Logging]
LogFile=%s
LogLevel=INFO
EnableConsole=true
ConsoleLevel=INFO

[Channels]
rdpdr=false
rdpsnd=false
cliprdr=true
drdynvc=true

[Xorg]
name=Xorg
lib=libxup.so
username=ask
password=ask
ip=127.0.0.1
port=-1
code=20
`

const sesmanINI = `[Globals]
ListenAddress=127.0.0.1
ListenPort=3350
EnableUserWindowManager=true
UserWindowManager=startwm.sh
DefaultWindowManager=/bin/false

[Security]
AllowRootLogin=false

[Sessions]
X11DisplayOffset=10
MaxSessions=10
KillDisconnected=true
Policy=Default

[Logging]
LogFile=%s
LogLevel=INFO
EnableConsole=true
ConsoleLevel=INFO

[Xorg]
param=/usr/lib/xorg/Xorg
param=-config
param=xrdp/xorg.conf
param=-noreset
param=-nolisten
param=tcp
param=-logfile
param=.xorgxrdp.%%s.log
`

// addUser makes a user of this machine, whose home is in the lab's directory, and returns the home.
func (l *Lab) addUser(name, password string) string {
	l.t.Helper()
	home := filepath.Join(l.Dir, name)
	if out, err := exec.Command("useradd", "--create-home", "--home-dir", home, "--shell", "/bin/sh", name).CombinedOutput(); err != nil {
		l.t.Fatalf("useradd %s: %v\n%s", name, err, out)
	}
	cmd := exec.Command("chpasswd")
	cmd.Stdin = strings.NewReader(name + ":" + password + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("chpasswd %s: %v\n%s", name, err, out)
	}
	return home
}

// certificate writes a certificate for an address and its key, and returns the authority that has signed it, in PEM.
func (l *Lab) certificate(dir string, addr netip.Addr) (cert, key, authority string) {
	l.t.Helper()
	sign := func(template, by *x509.Certificate, private, signer *ecdsa.PrivateKey) string {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, by, private.Public(), signer)
		if err != nil {
			l.t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	private := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			l.t.Fatal(err)
		}
		return key
	}
	root, rootKey, leafKey := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true}, private(), private()
	authority = sign(root, root, rootKey, rootKey)
	leaf := sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "target"}, IPAddresses: []net.IP{addr.AsSlice()}}, root, leafKey, rootKey)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		l.t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	l.write(cert, leaf)
	l.write(key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	return cert, key, authority
}
