package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/client"
)

func (c *command) agent() *cli.Command {
	return &cli.Command{
		Name: "agent", Usage: "show, stop or run the process that keeps connections",
		Description: `Commands start it by themselves. It holds the connections to your appliances,
so that the next command is quick, and ends when nobody has used it for ten
minutes. Without it (--no-agent) every command connects by itself.`,
		Subcommands: []*cli.Command{
			{Name: "status", Usage: "show what the agent holds", Action: c.agentStatus},
			{Name: "stop", Usage: "let the agent end when its flows have", Action: c.agentStop,
				Flags: []cli.Flag{&cli.BoolFlag{Name: "now", Usage: "end it at once; flows go on by another agent"}}},
			{Name: "run", Usage: "run the agent here, until Ctrl-C or nobody needs it", Action: c.agentRun,
				Flags: []cli.Flag{&cli.BoolFlag{Name: "log", Usage: "write to agent.log, not to stderr", Hidden: true},
					&cli.DurationFlag{Name: "idle", Usage: "end when nobody has used it for so `LONG`", Value: 10 * time.Minute}}},
		},
	}
}

// withoutAgent says that the person wants none.
func (c *command) withoutAgent() bool {
	return c.noAgent || c.wants("SALLYPORT_NO_AGENT")
}

// agentVersion is what makes command and agent the same program. A build that is no release is known by its file.
func agentVersion() string {
	v := "sallyport " + versionText()
	if !strings.Contains(v, "dev") {
		return v
	}
	if self, err := os.Executable(); err == nil {
		if info, err := os.Stat(self); err == nil {
			v += info.ModTime().UTC().Format(" 20060102T150405.000")
		}
	}
	return v
}

// startAgent starts the agent of a Home as a process of its own, which outlives this one.
func (c *command) startAgent(home client.Home) (ended <-chan struct{}, err error) {
	dir, err := filepath.Abs(home.Dir())
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(c.Self, "agent", "run", "--log")
	cmd.Env = append(os.Environ(), "SALLYPORT_HOME="+dir)
	cmd.Dir = string(filepath.Separator)
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	over := make(chan struct{})
	go func() { // nobody waits for it: the agent may live longer than this process
		cmd.Wait()
		close(over)
	}()
	return over, nil
}

// maxAgentLog is how much of the agents before is kept in the log.
const maxAgentLog = 256 << 10

func (c *command) agentRun(x *cli.Context) error {
	if err := none(x); err != nil {
		return err
	}
	home, err := c.home()
	if err != nil {
		return err
	}
	out := c.Stderr
	if x.Bool("log") {
		letGo()
		f, err := openAgentLog(filepath.Join(home.Dir(), "agent.log"))
		if err != nil {
			return err
		}
		defer f.Close()
		out = f
	}
	agent := &client.Agent{Home: home, Version: agentVersion(), Idle: x.Duration("idle"), Log: slog.New(slog.NewTextHandler(out, nil))}
	err = agent.Run(x.Context)
	if errors.Is(err, client.ErrAgentRuns) {
		return usage("an agent is running already", "see: sallyport agent status")
	}
	return err
}

func openAgentLog(path string) (*os.File, error) {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(path); err == nil && info.Size() > maxAgentLog {
		flags |= os.O_TRUNC
	}
	return os.OpenFile(path, flags, 0o600)
}

func (c *command) agentStatus(x *cli.Context) error {
	if err := none(x); err != nil {
		return err
	}
	home, err := c.home()
	if err != nil {
		return err
	}
	s := client.AgentOf(x.Context, home)
	if c.json {
		return c.print(s)
	}
	if s == nil {
		c.say("no agent is running; the next command starts one")
		return nil
	}
	if err := c.table(
		[]string{"process", fmt.Sprint(s.PID)},
		[]string{"version", s.Version},
		[]string{"since", when(s.Since)},
		[]string{"flows", fmt.Sprint(s.Flows)},
	); err != nil || len(s.Sessions) == 0 {
		return err
	}
	fmt.Fprintln(c.Stdout)
	rows := [][]string{{"APPLIANCE", "ADDRESS", "TRANSPORT", "FLOWS", "SINCE"}}
	for _, session := range s.Sessions {
		rows = append(rows, []string{session.Appliance, session.Address, session.Transport, fmt.Sprint(session.Flows), when(session.Since)})
	}
	return c.table(rows...)
}

func (c *command) agentStop(x *cli.Context) error {
	if err := none(x); err != nil {
		return err
	}
	home, err := c.home()
	if err != nil {
		return err
	}
	s := client.StopAgent(x.Context, home, x.Bool("now"))
	switch {
	case c.json:
		return c.print(s)
	case s == nil:
		c.say("no agent is running")
	case s.Flows > 0 && !x.Bool("now"):
		c.say(fmt.Sprintf("the agent takes no new flows and ends when %s; with --now at once, and they go on by another agent", count(s.Flows, "its one flow has ended", "its %d flows have ended")))
	case s.Flows > 0:
		c.say(fmt.Sprintf("the agent has ended, with %s", count(s.Flows, "one flow", "%d flows")))
	default:
		c.say("the agent has ended")
	}
	return nil
}

// count says how many there are, one or several.
func count(n int, one, several string) string {
	if n == 1 {
		return one
	}
	return fmt.Sprintf(several, n)
}
