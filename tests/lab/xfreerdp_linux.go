package lab

import (
	"context"
	"strings"
)

// RDPLogin says where and as whom xfreerdp connects.
type RDPLogin struct {
	Addr           string // host:port
	User, Password string
	Args           []string // further arguments; they win over the lab's own
}

// XFreeRDP starts xfreerdp on the display, without a frame around its picture. The password goes through stdin, so that it
// is in no command line.
func (d *Display) XFreeRDP(r RDPLogin) *Process {
	d.t.Helper()
	cmd := d.Command(context.Background(), "xfreerdp", append([]string{
		"/v:" + r.Addr, "/u:" + r.User, "/d:", "/from-stdin:force", "/cert:ignore", "/log-level:INFO", "-decorations", "-grab-keyboard",
	}, r.Args...)...)
	cmd.Stdin = strings.NewReader(r.Password + "\n")
	return Start(d.t, cmd)
}
