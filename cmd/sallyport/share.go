package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/frame"
)

func (c *command) share() *cli.Command {
	return &cli.Command{
		Name: "share", Usage: "let a guest in to a target by a link", ArgsUsage: "TARGET",
		Description: "  sallyport share db-1 --for 2h\n  sallyport share desk-1 --protocol rdp --uses 3 --approval ops-leads\n  sallyport share ls; sallyport share revoke 7q2k9f4m\n\n" +
			"Whoever has the link reaches that target by that protocol in a browser, as\nlong as you may. The link is shown once.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "protocol", Usage: "ssh or rdp", DefaultText: "the target's"},
			&cli.DurationFlag{Name: "for", Usage: "so `LONG`, such as 30m", DefaultText: "2h"},
			&cli.Int64Flag{Name: "uses", Usage: "it may be opened `N` times", DefaultText: "1"},
			&cli.StringFlag{Name: "approval", Usage: "somebody in `GROUP` must agree first"},
			&cli.BoolFlag{Name: "sign-in", Usage: "who opens it must sign in"},
			&cli.StringFlag{Name: "program", Usage: "only for `NAMES`, such as terminal,files", DefaultText: "all"},
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
			if port != 0 {
				return usage("a link is for a target, whatever its port", "run: sallyport share "+target)
			}
			ask := api.AskGuest{Target: target, Protocol: x.String("protocol"), For: x.Duration("for"), Uses: x.Int64("uses"), Approval: x.String("approval"),
				SignIn: x.Bool("sign-in")}
			if programs := x.String("program"); programs != "" {
				ask.Programs = strings.Split(programs, ",")
			}
			return c.ask(func(to *client.API) error {
				made, err := to.Share(x.Context, ask)
				if err != nil {
					return err
				}
				if c.json {
					return c.print(made)
				}
				c.say(fmt.Sprintf("link %s lets %s in to %s by %s until %s", frame.Clip(made.ID, 16), times(made.Uses), frame.Clip(made.Target, 64), frame.Clip(made.Protocol, 8), when(made.Expires)))
				_, err = fmt.Fprintln(c.Stdout, frame.Clip(made.Link, 512))
				return err
			})
		},
		Subcommands: []*cli.Command{{
			Name: "ls", Usage: "list your guest links",
			Flags: []cli.Flag{&cli.BoolFlag{Name: "all", Usage: "everybody's, for administrators"}},
			Action: func(x *cli.Context) error {
				if err := none(x); err != nil {
					return err
				}
				return c.ask(func(to *client.API) error {
					list, err := to.Guests(x.Context, x.Bool("all"))
					if err != nil {
						return err
					}
					return c.listGuests(list)
				})
			},
		}, {
			Name: "revoke", Usage: "end a guest link and its sessions", ArgsUsage: "LINK",
			Action: func(x *cli.Context) error {
				id, err := only(x, "link")
				if err != nil {
					return err
				}
				return c.ask(func(to *client.API) error {
					if err := to.Unshare(x.Context, id); err != nil {
						return err
					}
					if c.json {
						return c.print(struct{}{})
					}
					c.say("revoked link " + frame.Clip(id, 16))
					return nil
				})
			},
		}},
	}
}

// times is how many a link lets in.
func times(n int64) string {
	if n == 1 {
		return "one guest"
	}
	return fmt.Sprintf("%d guests", n)
}

func (c *command) listGuests(list []api.GuestLink) error {
	switch {
	case c.json:
		return c.print(list)
	case len(list) == 0:
		c.say("no guest links")
		return nil
	}
	rows := [][]string{{"LINK", "OF", "TARGET", "PROTOCOL", "MADE", "UNTIL", "USES", "NEEDS", "STATE"}}
	for _, l := range list {
		rows = append(rows, []string{l.ID, l.Maker, l.Target, l.Protocol, when(l.Created), when(l.Expires), fmt.Sprintf("%d of %d", l.Used, l.Uses), dash(needs(l)), linkState(l)})
	}
	return c.table(rows...)
}

// needs is what a guest must have beside the link.
func needs(l api.GuestLink) string {
	var words []string
	if l.SignIn {
		words = append(words, "sign-in")
	}
	if l.Approval != "" {
		words = append(words, "a yes of "+l.Approval)
	}
	return strings.Join(words, ", ")
}

func linkState(l api.GuestLink) string {
	switch {
	case !l.Revoked.IsZero():
		return "revoked " + l.Revoked.UTC().Format(time.DateTime)
	case l.Why != "":
		return l.Why
	case l.Used >= l.Uses:
		return "used up"
	}
	return "good"
}

// whose is a session's person, as people are told of them.
func whose(s api.Session) string {
	switch {
	case s.Link == "":
		return s.User
	case strings.HasPrefix(s.User, "guest:"):
		return fmt.Sprintf("guest of %s (link %s)", dash(s.GuestOf), s.Link)
	}
	return fmt.Sprintf("%s, guest of %s (link %s)", s.User, dash(s.GuestOf), s.Link)
}
