package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/client"
)

// lingerRDP is how long after its last connection an RDP client is taken to be gone: it connects more than once, and
// comes back by itself when its connection breaks.
const lingerRDP = 5 * time.Second

func (c *command) rdp() *cli.Command {
	return &cli.Command{
		Name: "rdp", Usage: "open a target's desktop with this computer's RDP client", ArgsUsage: "TARGET[:PORT] [-- client options]",
		Description: `A port of 127.0.0.1 is open while the client runs: mstsc on Windows, the
Windows App on macOS, xfreerdp elsewhere.

  sallyport rdp win-1 --user 'CORP\ann'
  sallyport rdp win-1 -- /f /sound
  sallyport rdp win-1 --print`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "user", Usage: "the `NAME` to sign in with on the target; mstsc asks for it"},
			&cli.BoolFlag{Name: "print", Usage: "print the command to run; wait until its client has left"},
		},
		Action: func(x *cli.Context) error {
			if x.NArg() == 0 {
				return misused(x, "takes a target")
			}
			req, err := request(x.Args().First(), "rdp")
			if err != nil {
				return err
			}
			d, err := c.dialAlone()
			if err != nil {
				return err
			}
			defer d.Close()
			if err := granted(x.Context, d, req); err != nil {
				return err
			}
			l, err := client.ListenLocal(x.Context, "")
			if err != nil {
				return err
			}
			tunnel := &client.Tunnel{Dialer: d, Request: req, Failed: func(err error) { c.fail(err) }}
			call := rdpCall{address: l.Addr().String(), user: x.String("user"), extra: x.Args().Tail()}
			if x.Bool("print") {
				tunnel.Linger = lingerRDP
				fmt.Fprintln(c.Stdout, displayLine(call.argv(rdpProgram())))
				return tunnel.Serve(x.Context, l)
			}
			return c.runRDP(x.Context, tunnel, l, call)
		},
	}
}

// runRDP serves the tunnel while the RDP client lives.
func (c *command) runRDP(ctx context.Context, tunnel *client.Tunnel, l net.Listener, call rdpCall) error {
	program := rdpProgram()
	argv := call.argv(program)
	path, err := exec.LookPath(argv[0])
	if err != nil {
		l.Close()
		return usage("there is no "+argv[0]+" on this computer", "install it, or use --print and another RDP client")
	}
	ctx, cancel := context.WithCancel(ctx)
	var served sync.WaitGroup
	defer served.Wait()
	defer cancel()
	if program.returns {
		tunnel.Linger = lingerRDP
	}
	served.Go(func() { tunnel.Serve(ctx, l) })
	cmd := exec.CommandContext(ctx, path, argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stderr, c.Stderr
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &exit):
		return exitStatus(exit.ExitCode())
	case err == nil && program.returns:
		served.Wait()
	}
	return err
}

// An rdpClient is a program that shows a desktop.
type rdpClient struct {
	name    string
	returns bool // it hands over to another process and ends
}

// An rdpCall is what an RDP client is told.
type rdpCall struct {
	address string // of the local port
	user    string // may be empty
	extra   []string
}

// argv is the command line. No password is ever in it: the client asks.
func (r rdpCall) argv(program rdpClient) []string {
	argv := []string{program.name}
	switch program.name {
	case "mstsc": // a file could say more, but an unsigned one is met with a warning each time
		argv = append(argv, "/v:"+r.address)
	case "open":
		uri := "rdp://full%20address=s:" + url.PathEscape(r.address) + "&prompt%20for%20credentials%20on%20client=i:1"
		if r.user != "" {
			uri += "&username=s:" + url.PathEscape(r.user)
		}
		argv = append(argv, uri)
	default:
		argv = append(argv, "/v:"+r.address, "/cert:tofu", "/dynamic-resolution", "+clipboard")
		if r.user != "" {
			argv = append(argv, "/u:"+r.user, "/from-stdin")
		}
	}
	return append(argv, r.extra...)
}

// displayLine is argv as a person can copy it.
func displayLine(argv []string) string {
	quoted := make([]string, len(argv))
	for i, w := range argv {
		if quoted[i] = w; strings.ContainsAny(w, " &\\\"'$%;()<>|*?#") {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}
