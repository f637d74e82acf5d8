package lab

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
)

// ShadowOptions says how a target's desktop differs from the usual one.
type ShadowOptions struct {
	Port     uint16   // default 3389
	User     string   // default ann
	Password string   // default made up
	Size     string   // default 1024x768
	TLS      bool     // no Network Level Authentication: TLS, and no password either
	Program  []string // what the terminal on the desktop runs; default: a shell that shows "SHADOW DESKTOP" and echoes
}

// A Shadow is a Linux desktop that FreeRDP's server shares, with NLA: a terminal that fills the screen.
type Shadow struct {
	Addr           netip.AddrPort // the first address of the namespace
	User, Password string
	Display        *Display // the desktop itself
	Process        *Process
}

// Shadow starts a desktop in a namespace and waits until its RDP server answers.
func (l *Lab) Shadow(n *Namespace, o ShadowOptions) *Shadow {
	l.t.Helper()
	o.User = cmp.Or(o.User, "ann")
	o.Password = cmp.Or(o.Password, "Plover 4711")
	if o.Port == 0 {
		o.Port = 3389
	}
	if o.Program == nil {
		o.Program = []string{"sh", "-c", "echo SHADOW DESKTOP; exec cat"}
	}
	s := &Shadow{User: o.User, Password: o.Password, Addr: netip.AddrPortFrom(n.addr(), o.Port)}
	s.Display = l.Xvfb(n, cmp.Or(o.Size, "1024x768"))
	Start(l.t, s.Display.Command(context.Background(), "xterm",
		append([]string{"-fa", "monospace", "-fs", "24", "-maximized", "-e"}, o.Program...)...))
	args := []string{"/bind-address:0.0.0.0", fmt.Sprintf("/port:%d", o.Port)}
	if o.TLS {
		args = append(args, "/sec:tls", "-auth")
	} else {
		sam := filepath.Join(s.Display.dir, "sam")
		l.write(sam, l.samLine(o.User, o.Password))
		args = append(args, "/sec:nla", "/sam-file:"+sam)
	}
	s.Process = Start(l.t, s.Display.Command(context.Background(), "freerdp-shadow-cli", args...))
	l.waitPort(n, s.Addr, s.Process)
	return s
}

// samLine is a user's line in the file from which FreeRDP's server checks NTLM.
func (l *Lab) samLine(user, password string) string {
	l.t.Helper()
	return l.Client.Run("winpr-hash", "-u", user, "-p", password, "-f", "sam")
}
