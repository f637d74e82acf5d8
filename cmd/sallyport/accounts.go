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

func (c *command) accounts() *cli.Command {
	one := func(name, usage, done, description string, do func(*client.API, *cli.Context, string) error) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, ArgsUsage: "USER", Description: description, Action: func(x *cli.Context) error {
			user, err := only(x, "user")
			if err != nil {
				return err
			}
			return c.ask(func(to *client.API) error {
				if err := do(to, x, user); err != nil {
					return err
				}
				c.say(fmt.Sprintf("%s %s", done, frame.Clip(user, 64)))
				return nil
			})
		}}
	}
	return &cli.Command{
		Name: "accounts", Usage: "list accounts, or change one",
		Description: "  sallyport admin accounts\n  sallyport admin accounts add ann --group ops\n  sallyport admin accounts reset ann --second-factor",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list all accounts", Action: func(x *cli.Context) error {
				if err := none(x); err != nil {
					return err
				}
				return c.listAccounts(x)
			}},
			c.addAccount(), c.resetAccount(),
			one("disable", "bar an account and revoke its devices", "disabled",
				"Its sign-ins and its live sessions end within five seconds. Its devices are\nrevoked for good: after enable the person signs in anew on each.", func(to *client.API, x *cli.Context, user string) error {
					return to.SetAccount(x.Context, user, api.SetAccount{Disabled: true})
				}),
			one("enable", "let an account be used again", "enabled",
				"The person signs in with the password and second factor of before, on devices\nthat have forgotten the appliance: sallyport logout.", func(to *client.API, x *cli.Context, user string) error {
					return to.SetAccount(x.Context, user, api.SetAccount{})
				}),
			one("remove", "remove an account with all that is its", "removed",
				"Sign-ins and live sessions end within five seconds, devices are revoked for\ngood, and password, second factors and groups are deleted. An account of an\nidentity provider comes back at its next sign-in: disable it instead.", func(to *client.API, x *cli.Context, user string) error {
					return to.RemoveAccount(x.Context, user)
				}),
		},
		Action: func(x *cli.Context) error {
			if x.Args().Present() {
				return unknownCommand(x.Command.Subcommands, "sallyport admin accounts", x.Args().First())
			}
			return c.listAccounts(x)
		},
	}
}

func (c *command) listAccounts(x *cli.Context) error {
	return c.ask(func(to *client.API) error {
		list, err := to.Accounts(x.Context)
		switch {
		case err != nil:
			return err
		case c.json:
			return c.print(list)
		case len(list) == 0:
			c.say("there are no accounts")
			return nil
		}
		rows := [][]string{{"USER", "SOURCE", "GROUPS", "HAS", "CREATED", "LAST LOGIN", "DISABLED"}}
		for _, a := range list {
			rows = append(rows, []string{a.User, a.Source, dash(strings.Join(a.Groups, ",")), dash(strings.Join(a.Has, ",")), when(a.Created), when(a.LastLogin), when(a.Disabled)})
		}
		return c.table(rows...)
	})
}

func (c *command) addAccount() *cli.Command {
	return &cli.Command{
		Name: "add", Usage: "make an account, and a link to set it up by", ArgsUsage: "USER",
		Description: "Who has the link chooses the password and the second factor, once and within\n24 hours. It is shown this once: give it by a way that you trust.",
		Flags:       []cli.Flag{&cli.StringSliceFlag{Name: "group", Usage: "put it into `GROUP`; may be repeated"}},
		Action: func(x *cli.Context) error {
			user, err := only(x, "user")
			if err != nil {
				return err
			}
			return c.link(func(to *client.API) (api.SetUp, error) {
				return to.AddAccount(x.Context, api.AddAccount{User: user, Groups: x.StringSlice("group")})
			})
		},
	}
}

func (c *command) resetAccount() *cli.Command {
	return &cli.Command{
		Name: "reset", Usage: "take credentials off, and make a new link", ArgsUsage: "USER",
		Description: "All credentials, or only those that a flag names. The account's sign-ins end.\nMake sure who asks: this is where attackers call.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "second-factor", Usage: "passkeys, one-time and recovery codes"},
			&cli.BoolFlag{Name: "password", Usage: "the password"},
		},
		Action: func(x *cli.Context) error {
			user, err := only(x, "user")
			if err != nil {
				return err
			}
			return c.link(func(to *client.API) (api.SetUp, error) {
				return to.ResetAccount(x.Context, user, api.ResetAccount{Password: x.Bool("password"), SecondFactor: x.Bool("second-factor")})
			})
		},
	}
}

// link prints a set-up link, which is all that goes to stdout.
func (c *command) link(made func(*client.API) (api.SetUp, error)) error {
	_, profile, err := c.profile()
	if err != nil {
		return err
	}
	return c.ask(func(to *client.API) error {
		s, err := made(to)
		if err != nil {
			return err
		}
		url := "https://" + strings.TrimSuffix(profile.Address, ":443") + frame.Clip(s.Path, 200)
		if c.json {
			return c.print(map[string]string{"user": s.User, "url": url, "expires": s.Expires.UTC().Format(time.RFC3339)})
		}
		c.say(fmt.Sprintf("whoever opens this link first sets up %s; it is good until %s", frame.Clip(s.User, 64), when(s.Expires)))
		_, err = fmt.Fprintln(c.Stdout, url)
		return err
	})
}

func (c *command) signIns() *cli.Command {
	list := func(x *cli.Context) error {
		if x.NArg() > 1 {
			return misused(x, fmt.Sprintf("takes one user, not %d arguments", x.NArg()))
		}
		return c.ask(func(to *client.API) error {
			list, err := to.SignIns(x.Context, x.Args().First())
			switch {
			case err != nil:
				return err
			case c.json:
				return c.print(list)
			case len(list) == 0:
				c.say("nobody is signed in")
				return nil
			}
			rows := [][]string{{"SIGN-IN", "USER", "DEVICE", "BY", "SINCE", "UNTIL", "SECOND FACTOR"}}
			for _, s := range list {
				rows = append(rows, []string{s.ID, s.User, s.Device, s.Provider, when(s.Created), when(s.Expires), when(s.MFA)})
			}
			return c.table(rows...)
		})
	}
	return &cli.Command{
		Name: "signins", Usage: "list who is signed in, or end that", ArgsUsage: "[USER]",
		Description: "  sallyport admin signins ann\n  sallyport admin signins end --user ann",
		Action:      list,
		Subcommands: []*cli.Command{{
			Name: "end", Usage: "end a sign-in, or all of a person", ArgsUsage: "[ID]",
			Flags: []cli.Flag{&cli.StringFlag{Name: "user", Usage: "all sign-ins of `USER`"}},
			Action: func(x *cli.Context) error {
				which := api.EndSignIns{ID: x.Args().First(), User: x.String("user")}
				if x.NArg() > 1 || (which.ID == "") == (which.User == "") {
					return usage("takes one sign-in, or --user", "sallyport admin signins lists them")
				}
				return c.ask(func(to *client.API) error {
					ended, err := to.EndSignIns(x.Context, which)
					if err != nil {
						return err
					}
					if c.json {
						return c.print(ended)
					}
					for _, s := range ended {
						c.say(fmt.Sprintf("ended the sign-in of %s on %s", frame.Clip(s.User, 64), frame.Clip(s.Device, 64)))
					}
					if len(ended) == 0 {
						c.say("nobody was signed in")
					}
					return nil
				})
			},
		}},
	}
}
