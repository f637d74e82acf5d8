package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport/bench"
)

// A candidate is one way from the client to the target, and how to open it.
type candidate struct {
	bench.Candidate
	custom     bool     // it comes from a file of the user's
	programs   []string // that must be there; one of several is written "a|b"
	prepare    func(ctx context.Context, l *lab, c *candidate) error
	address    string // where the client dials
	congestion string // of the client's and the target's sockets; default the namespace's
	peer       string // the target's NIC that it uses; default b0

	beyond  []command                       // what runs at the target, besides the load
	gateway []command                       // what runs on the gateway, and is what is accounted
	linked  func(ctx context.Context) error // after each start of the gateway; nil: nothing
	meet    func(ctx context.Context) error // between the gateway's start and the client's, once; nil: nothing
	client  []command
	crowd   func(ctx context.Context, flows int) ([]command, []string, error) // further clients for so many flows, and where they are dialled; nil: the one client has them all

	met      bool
	prepared bool
	beyonds  []*process
	gateways []*process
	clients  []*process
}

// A command is a program that runs in the background, and how to know that it is ready.
type command struct {
	at      *space
	env     []string
	args    []string
	listens string // an address that answers in its namespace
	says    string // a text that it prints
}

// readyWithin is how long a program may take to start on a busy machine.
const readyWithin = 20 * time.Second

func (c *command) start(ctx context.Context) (*process, error) {
	p, err := c.at.start(c.env, c.args[0], c.args[1:]...)
	if err != nil {
		return nil, err
	}
	if c.says != "" {
		err = p.says(ctx, readyWithin, c.says)
	}
	if c.listens != "" && err == nil {
		err = p.eventually(ctx, readyWithin, func() error {
			return c.at.do(func() error {
				conn, err := net.DialTimeout("tcp4", c.listens, time.Second)
				if err != nil {
					return err
				}
				return conn.Close()
			})
		})
	}
	if err != nil {
		p.stop(0)
		return nil, fmt.Errorf("%s: %w", filepath.Base(c.args[0]), err)
	}
	return p, nil
}

// missing says which program is not there, or nothing.
func (c *candidate) missing() string {
	var absent []string
	for _, p := range c.programs {
		if findProgram(p) == "" {
			absent = append(absent, strings.ReplaceAll(p, "|", " or "))
		}
	}
	if absent == nil {
		return ""
	}
	why := strings.Join(absent, ", ") + " not found"
	switch {
	case c.Kind == bench.Ours:
		why += "; run make build, or name the folder with --programs"
	case !c.custom:
		why += "; make packages installs it on Debian"
	}
	return why
}

// findProgram is the path of the first of several programs that is there.
func findProgram(names string) string {
	for name := range strings.SplitSeq(names, "|") {
		for _, dir := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
			if path, err := exec.LookPath(dir + name); err == nil {
				return path
			}
		}
	}
	return ""
}

// start opens the way afresh: nothing of an earlier round runs any more.
func (c *candidate) start(ctx context.Context, l *lab, g *remote) (err error) {
	defer func() {
		if err != nil {
			c.stop()
		}
	}()
	if c.prepare != nil && !c.prepared {
		if err := c.prepare(ctx, l, c); err != nil {
			return err
		}
	}
	c.prepared = true
	if c.beyonds, err = startAll(ctx, c.beyond); err != nil {
		return err
	}
	if c.gateways, err = startAll(ctx, c.gateway); err != nil {
		return err
	}
	if c.linked != nil {
		if err := c.linked(ctx); err != nil {
			return err
		}
	}
	if c.meet != nil && !c.met {
		if err := c.meet(ctx); err != nil {
			return err
		}
	}
	c.met = true
	return c.startClient(ctx, g)
}

// startClient starts the client's part and waits for the first byte through it.
func (c *candidate) startClient(ctx context.Context, g *remote) (err error) {
	if c.clients, err = startAll(ctx, c.client); err != nil {
		return err
	}
	_, err = g.do(ctx, order{Do: doFirst, Address: c.address, Congestion: c.congestion, Length: readyWithin})
	return errors.Join(err, c.alive(err))
}

// alive tells, when something else has gone wrong, which programs have ended and what the client's last said.
func (c *candidate) alive(err error) error {
	if err == nil {
		return nil
	}
	var errs []error
	for _, p := range append(slices.Clone(c.gateways), c.clients...) {
		errs = append(errs, p.alive())
	}
	for _, p := range c.clients {
		lines := strings.Split(strings.TrimSpace(p.output.String()), "\n")
		if last := lines[len(lines)-1]; last != "" && p.alive() == nil {
			errs = append(errs, fmt.Errorf("%s said: %s", filepath.Base(p.Args[0]), last))
		}
	}
	return errors.Join(errs...)
}

func startAll(ctx context.Context, commands []command) ([]*process, error) {
	var started []*process
	for _, c := range commands {
		p, err := c.start(ctx)
		if err != nil {
			stopAll(started)
			return nil, err
		}
		started = append(started, p)
	}
	return started, nil
}

func stopAll(processes []*process) {
	for _, p := range slices.Backward(processes) {
		p.stop(5 * time.Second)
	}
}

func (c *candidate) stopClient() {
	stopAll(c.clients)
	c.clients = nil
}

func (c *candidate) stop() {
	c.stopClient()
	stopAll(c.gateways)
	stopAll(c.beyonds)
	c.gateways, c.beyonds = nil, nil
}

// roots are the ids of the gateway's processes.
func (c *candidate) roots() []int {
	var pids []int
	for _, p := range c.gateways {
		pids = append(pids, p.Process.Pid)
	}
	return pids
}
