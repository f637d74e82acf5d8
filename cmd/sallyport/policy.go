package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/client"
	"sallyport/frame"
)

func (c *command) policy() *cli.Command {
	return &cli.Command{
		Name: "policy", Usage: "ask why, check files, or run tests",
		Subcommands: []*cli.Command{c.policyWhy(), c.policyCheck(), c.policyTest()},
	}
}

func (c *command) policyWhy() *cli.Command {
	return &cli.Command{
		Name: "why", Usage: "show how a request would be decided, and by what",
		Description: "  sallyport admin policy why --user ann --target db-1 --protocol ssh \\\n    --at 2026-11-22T20:00\n\nNothing is dialled or looked up. Exit status: 0 allowed, 11 denied.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "user", Usage: "who asks; must be given"},
			&cli.StringFlag{Name: "device", Usage: "`ID` of a device of theirs, whose scope counts"},
			&cli.StringFlag{Name: "target", Usage: "a name or an address; must be given"},
			&cli.StringFlag{Name: "protocol", Usage: "ssh, rdp or tcp"},
			&cli.StringFlag{Name: "port", Usage: "where it is not the target's own"},
			&cli.StringFlag{Name: "vnet", Usage: "where an address lies"},
			&cli.StringFlag{Name: "address", Usage: "`ADDRESS` that the target's name resolves to"},
			&cli.StringFlag{Name: "source", Usage: "`ADDRESS` where they come from"},
			&cli.StringFlag{Name: "transport", Usage: "quic, https or websocket"},
			&cli.StringFlag{Name: "groups", Usage: "theirs at the identity provider: `A,B`"},
			&cli.StringFlag{Name: "at", Usage: "`TIME`, such as 2026-11-22T20:00; default now"},
			&cli.StringFlag{Name: "mfa-age", Usage: "how `LONG` ago a second factor was used"},
		},
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			q := url.Values{}
			for _, name := range []string{"user", "device", "target", "protocol", "port", "vnet", "address", "source", "transport", "groups", "mfa-age"} {
				if v := x.String(name); v != "" {
					q.Set(strings.ReplaceAll(name, "-", "_"), v)
				}
			}
			if q.Get("user") == "" || q.Get("target") == "" {
				return usage("--user and --target are needed", "such as --user ann --target db-1")
			}
			at, err := moment(x.String("at"), time.Now())
			if err != nil {
				return err
			}
			if !at.IsZero() {
				q.Set("at", at.Format(time.RFC3339))
			}
			return c.ask(func(api *client.API) error {
				why, err := api.Why(x.Context, q)
				if err != nil {
					return err
				}
				if c.json {
					err = c.print(why)
				} else {
					for line := range strings.Lines(why.Text) {
						fmt.Fprintln(c.Stdout, frame.Clip(strings.TrimRight(line, "\n"), 500))
					}
				}
				if err == nil && !why.Allowed {
					return exitStatus(frame.Code("E_DENIED").Exit())
				}
				return err
			})
		},
	}
}

func (c *command) policyCheck() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "say what is wrong with access files", ArgsUsage: "PATH",
		Description: "  sallyport admin policy check access/\n\nThe appliance reads and tests a folder, or access.yaml, and takes nothing.\nExit status: 1 if there are faults.",
		Action: func(x *cli.Context) error {
			path, err := only(x, "path")
			if err != nil {
				return err
			}
			files, err := readAccess(path)
			if err != nil {
				return err
			}
			return c.ask(func(api *client.API) error {
				check, err := api.CheckPolicy(x.Context, files)
				switch {
				case err != nil:
					return err
				case c.json:
					err = c.print(check)
				case len(check.Faults) == 0:
					c.say(fmt.Sprintf("%s is sound; %d tests pass", path, check.Tests))
				}
				for _, f := range check.Faults {
					if !c.json {
						c.say(frame.Clip(f, 500))
					}
				}
				if err == nil && len(check.Faults) > 0 {
					return exitStatus(1)
				}
				return err
			})
		},
	}
}

func (c *command) policyTest() *cli.Command {
	return &cli.Command{
		Name: "test", Usage: "run the tests that stand in the access files",
		Description: "Those in force on the appliance, under tests: in access.yaml. Exits 1 if one\nfails. sallyport admin policy check tries files before they are in force.",
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			return c.ask(func(api *client.API) error {
				t, err := api.TestPolicy(x.Context)
				if err != nil {
					return err
				}
				if c.json {
					err = c.print(t)
				} else {
					for _, f := range t.Failures {
						c.say(frame.Clip(f, 500))
					}
					_, err = fmt.Fprintf(c.Stdout, "%d tests, %d failed\n", t.Ran, len(t.Failures))
				}
				if err == nil && len(t.Failures) > 0 {
					return exitStatus(1)
				}
				return err
			})
		},
	}
}
