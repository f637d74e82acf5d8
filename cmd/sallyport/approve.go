package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/frame"
)

func (c *command) request() *cli.Command {
	return &cli.Command{
		Name: "request", Usage: "ask for a target that needs somebody's approval", ArgsUsage: "TARGET[:PORT]",
		Description: "  sallyport request db-1 --why 'ticket 4711' --wait\n\nTo connect asks too. When somebody has said yes, you connect for as long as\nthey have said.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "protocol", Usage: "ssh, rdp or tcp", DefaultText: "the target's"},
			&cli.StringFlag{Name: "why", Usage: "tell the approvers `TEXT`"},
			&cli.BoolFlag{Name: "wait", Usage: "until it is decided"},
		},
		Action: func(x *cli.Context) error {
			name, err := only(x, "target")
			if err != nil {
				return err
			}
			target, port, err := client.ParseTarget(name)
			if err != nil {
				return err
			}
			ask := api.AskApproval{Target: target, Port: int(port), Protocol: x.String("protocol"), Reason: x.String("why")}
			return c.ask(func(to *client.API) error {
				list, err := to.AskApproval(x.Context, ask)
				if err != nil {
					return err
				}
				if x.Bool("wait") {
					if list, err = c.awaitDecision(x.Context, to, list); err != nil {
						return err
					}
				}
				if c.json {
					return c.print(list)
				}
				if len(list) == 0 {
					c.say(frame.Clip(name, 64) + " needs nobody's approval")
				}
				for _, a := range list {
					c.say(says(a))
				}
				for _, a := range list {
					if !a.Decided.IsZero() && !a.Approved {
						return frame.Refuse("E_APPROVAL", frame.Clip(a.By, 64)+" has not approved it", "")
					}
				}
				return nil
			})
		},
	}
}

// says is a line about a request.
func says(a api.Approval) string {
	what := fmt.Sprintf("request %.12s for %s", a.ID, frame.Clip(a.Target, 200))
	switch {
	case a.Decided.IsZero():
		return fmt.Sprintf("%s waits for somebody in %s until %s", what, frame.Clip(a.Group, 64), when(a.Expires))
	case a.Approved:
		return fmt.Sprintf("%s was approved by %s until %s", what, frame.Clip(a.By, 64), when(a.Expires))
	default:
		return fmt.Sprintf("%s was denied by %s", what, frame.Clip(a.By, 64))
	}
}

// awaitDecision asks each second until all requests are decided.
func (c *command) awaitDecision(ctx context.Context, to *client.API, list []api.Approval) ([]api.Approval, error) {
	for waits := true; waits; {
		waits = false
		now, err := to.Approvals(ctx, true)
		if err != nil {
			return nil, err
		}
		for i, a := range list {
			there := false
			for _, n := range now {
				if n.ID == a.ID {
					list[i], there = n, true
				}
			}
			if !there {
				return nil, frame.Refuse("E_APPROVAL", "nobody has decided it in time", "ask somebody in "+frame.Clip(a.Group, 64)+", and try again")
			}
			waits = waits || list[i].Decided.IsZero()
		}
		if waits {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		}
	}
	return list, nil
}

func (c *command) approvals() *cli.Command {
	return &cli.Command{
		Name: "approvals", Usage: "list requests that wait for your approval, and your own",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "those that are decided too, until they run out"},
			&cli.BoolFlag{Name: "watch", Usage: "again and again, until you press Ctrl-C"},
		},
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			return c.ask(func(to *client.API) error {
				for {
					list, err := to.Approvals(x.Context, x.Bool("all"))
					if err == nil {
						err = c.listApprovals(list, x.Bool("watch"))
					}
					if err != nil || !x.Bool("watch") {
						return err
					}
					select {
					case <-time.After(2 * time.Second):
					case <-x.Context.Done():
						return context.Cause(x.Context)
					}
				}
			})
		},
	}
}

func (c *command) listApprovals(list []api.Approval, watch bool) error {
	if c.json {
		return c.print(list)
	}
	if watch {
		fmt.Fprint(c.Stdout, "\x1b[H\x1b[2J")
	}
	if len(list) == 0 {
		c.say("no requests wait")
		return nil
	}
	rows := [][]string{{"REQUEST", "USER", "TARGET", "PROTOCOL", "GROUP", "ASKED", "UNTIL", "STATE", "WHY"}}
	for _, a := range list {
		state := "waits"
		switch {
		case a.MayDecide:
			state = "waits for you"
		case a.Approved:
			state = "approved by " + a.By
		case !a.Decided.IsZero():
			state = "denied by " + a.By
		}
		rows = append(rows, []string{a.ID[:min(12, len(a.ID))], a.User, a.Target, a.Protocol, a.Group, when(a.Asked), when(a.Expires), state, dash(a.Reason)})
	}
	return c.table(rows...)
}

func (c *command) approve() *cli.Command {
	return c.decide("approve", "say yes to somebody's request", "approved", true, &cli.DurationFlag{Name: "for", Usage: "so `LONG`, such as 30m", DefaultText: "1h"})
}

func (c *command) deny() *cli.Command {
	return c.decide("deny", "say no to somebody's request", "denied", false)
}

func (c *command) decide(name, says, done string, yes bool, more ...cli.Flag) *cli.Command {
	return &cli.Command{
		Name: name, Usage: says, ArgsUsage: "REQUEST",
		Description: "sallyport approvals lists the requests that wait for you. The beginning of an\nid will do, from eight characters on. Nobody decides their own.",
		Flags:       append(more, &cli.StringFlag{Name: "why", Usage: "tell them `TEXT`"}),
		Action: func(x *cli.Context) error {
			id, err := only(x, "request")
			if err != nil {
				return err
			}
			return c.ask(func(to *client.API) error {
				a, err := to.DecideApproval(x.Context, id, api.DecideApproval{Approve: yes, For: x.Duration("for"), Why: x.String("why")})
				if err != nil {
					return err
				}
				if c.json {
					return c.print(a)
				}
				line := fmt.Sprintf("%s %s to %s", done, frame.Clip(a.User, 64), frame.Clip(a.Target, 200))
				if yes {
					line += " until " + when(a.Expires)
				}
				c.say(line)
				return nil
			})
		},
	}
}
