package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/frame"
)

func (c *command) accounts() *cli.Command {
	list := func(x *cli.Context) error { return c.listAccounts(x) }
	return &cli.Command{
		Name: "accounts", Usage: "list who may sign in, and make or bar accounts",
		Description: "  sallyport admin accounts\n  sallyport admin accounts add ann\n  sallyport admin accounts disable bob\n\n" +
			"A new account comes with a link, which you hand to its owner by a way that\nyou trust. With it they choose a password and a second factor; it works once\nand for a day.",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list all accounts", Action: list},
			c.withLink("add", "make a local account", func(ctx context.Context, a *client.API, user string) (api.Setup, error) {
				return a.AddAccount(ctx, user)
			}),
			c.withLink("reset", "take all credentials off a local account", func(ctx context.Context, a *client.API, user string) (api.Setup, error) {
				return a.ResetAccount(ctx, user)
			}),
			c.onAccount("disable", "disabled", "bar an account and end its sessions", func(ctx context.Context, a *client.API, user string) error { return a.BarAccount(ctx, user, true) }),
			c.onAccount("enable", "enabled", "let an account in again", func(ctx context.Context, a *client.API, user string) error { return a.BarAccount(ctx, user, false) }),
			c.onAccount("remove", "removed", "remove an account and end its sessions", func(ctx context.Context, a *client.API, user string) error { return a.RemoveAccount(ctx, user) }),
		},
		Action: func(x *cli.Context) error {
			if x.Args().Present() {
				return unknownCommand(x.Command.Subcommands, "sallyport admin accounts", x.Args().First())
			}
			return list(x)
		},
	}
}

// withLink is a command that answers with a set-up link.
func (c *command) withLink(name, says string, do func(context.Context, *client.API, string) (api.Setup, error)) *cli.Command {
	return &cli.Command{Name: name, Usage: says, ArgsUsage: "USER", Action: func(x *cli.Context) error {
		user, err := only(x, "user name")
		if err != nil {
			return err
		}
		return c.ask(func(api *client.API) error {
			made, err := do(x.Context, api, user)
			if err != nil {
				return err
			}
			if c.json {
				return c.print(made)
			}
			c.say(fmt.Sprintf("hand %s this link, which works once and for a day:", frame.Clip(made.User, 64)))
			_, err = fmt.Fprintln(c.Stdout, frame.Clip(made.Link, 600))
			return err
		})
	}}
}

func (c *command) onAccount(name, done, says string, do func(context.Context, *client.API, string) error) *cli.Command {
	return &cli.Command{Name: name, Usage: says, ArgsUsage: "USER", Action: func(x *cli.Context) error {
		user, err := only(x, "user name")
		if err != nil {
			return err
		}
		return c.ask(func(api *client.API) error {
			if err := do(x.Context, api, user); err != nil {
				return err
			}
			c.say(done + " " + frame.Clip(user, 64))
			return nil
		})
	}}
}

func (c *command) listAccounts(x *cli.Context) error {
	if err := none(x); err != nil {
		return err
	}
	return c.ask(func(api *client.API) error {
		list, err := api.Accounts(x.Context)
		if err != nil {
			return err
		}
		if c.json {
			return c.print(list)
		}
		rows := [][]string{{"USER", "BY", "HAS", "CREATED", "LAST LOGIN", "DISABLED"}}
		for _, a := range list {
			by, factors := "local", strings.Join(a.Factors, ", ")
			if a.Source != "" {
				by, factors = a.Source, "-"
			}
			if a.Source == "" && len(a.Factors) == 0 {
				factors = "not set up yet"
			}
			rows = append(rows, []string{a.User, by, factors, when(a.Created), when(a.LastLogin), when(a.Disabled)})
		}
		return c.table(rows...)
	})
}
