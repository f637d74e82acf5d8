package lab

import (
	"cmp"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
)

// WestonOptions says how a weston desktop differs from the usual one.
type WestonOptions struct {
	Port    uint16 // default 3389
	Program string // a shell script that the desktop's terminal runs; default: shows "WESTON DESKTOP" and echoes
}

// A Weston is a Wayland desktop that is made for RDP: TLS, and nobody logs on.
type Weston struct {
	Addr      netip.AddrPort // the first address of the namespace
	Authority string         // that has signed its certificate for the address, in PEM
	Process   *Process
}

// Weston starts a desktop in a namespace, with a terminal.
func (l *Lab) Weston(n *Namespace, o WestonOptions) *Weston {
	l.t.Helper()
	o.Port = cmp.Or(o.Port, 3389)
	o.Program = cmp.Or(o.Program, "echo WESTON DESKTOP; exec cat")
	dir := l.dir("weston")
	cert, key, authority := l.certificate(dir, n.addr())
	script, terminal := filepath.Join(dir, "program.sh"), filepath.Join(dir, "terminal.sh")
	l.write(script, "#!/bin/sh\n"+o.Program+"\n")
	l.write(terminal, "#!/bin/sh\nexec weston-terminal --maximized --font-size=24 --shell="+script+"\n")
	for _, path := range []string{script, terminal} {
		if err := os.Chmod(path, 0o700); err != nil {
			l.t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "weston.ini")
	l.write(config, "[core]\nidle-time=0\n[autolaunch]\npath="+terminal+"\n[shell]\nlocking=false\n[keyboard]\nrepeat-rate=0\n")
	if err := os.Chmod(dir, 0o700); err != nil {
		l.t.Fatal(err)
	}
	cmd := n.Command(context.Background(), "weston", "--backend=rdp-backend.so", "--address=0.0.0.0", "--port="+strconv.Itoa(int(o.Port)),
		"--rdp-tls-cert="+cert, "--rdp-tls-key="+key, "--width=1024", "--height=768", "--config="+config, "--socket="+filepath.Base(dir))
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "HOME="+dir)
	w := &Weston{Authority: authority, Addr: netip.AddrPortFrom(n.addr(), o.Port), Process: Start(l.t, cmd)}
	l.waitPort(n, w.Addr, w.Process)
	return w
}
