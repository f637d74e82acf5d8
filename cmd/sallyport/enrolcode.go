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

func (c *command) enrolCode() *cli.Command {
	return &cli.Command{
		Name: "enrol-code", Usage: "make a one-time code that enrols a device",
		Description: "  sallyport admin enrol-code --user bot --target db-1 --protocol ssh \\\n    --expires 720h\n\n" +
			"Prints the line that the person or robot runs and, on a line of its own,\nthe code that it asks for. The code is good once and shown this once: give it\nby a way that you trust. " +
			"With --target, --protocol or --expires the device\nmay do less than its person, and never administers.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "user", Usage: "the device will act for `NAME`; must be given"},
			&cli.DurationFlag{Name: "valid", Usage: "let the code be good for `TIME`", DefaultText: "10m"},
			&cli.StringSliceFlag{Name: "target", Usage: "let the device reach `T` only"},
			&cli.StringSliceFlag{Name: "protocol", Usage: "by protocol `P` only"},
			&cli.DurationFlag{Name: "expires", Usage: "refuse the device after `TIME`", DefaultText: "never"},
		},
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			ask := api.AskCode{User: x.String("user"), Valid: x.Duration("valid"), Targets: x.StringSlice("target"), Protocols: x.StringSlice("protocol"),
				Expires: x.Duration("expires")}
			switch {
			case ask.User == "":
				return usage("--user is needed", "such as --user bot")
			case x.IsSet("valid") && ask.Valid <= 0, x.IsSet("expires") && ask.Expires <= 0:
				return usage("--valid and --expires must be a time to come", "such as --expires 720h")
			}
			_, profile, err := c.profile()
			if err != nil {
				return err
			}
			return c.ask(func(to *client.API) error {
				code, err := to.NewCode(x.Context, ask)
				if err != nil {
					return err
				}
				login := "sallyport login https://" + strings.TrimSuffix(profile.Address, ":443") + " --user " + frame.Clip(code.User, 64)
				if profile.Trust.Pin != "" {
					login += " --fingerprint " + profile.Trust.Pin
				}
				if c.json {
					return c.print(enrolCode{code, login})
				}
				c.say(fmt.Sprintf("the code is good until %s", code.Expires.Local().Format(time.TimeOnly)))
				_, err = fmt.Fprintf(c.Stdout, "%s\n%s\n", login, frame.Clip(code.Code, 64))
				return err
			})
		},
	}
}

// enrolCode is a code and the line that asks for it.
type enrolCode struct {
	api.Code
	Login string `json:"login"`
}

// scope reads like db-1,web-1 by ssh, and leaves the end out.
func scope(s api.Scope) string {
	var words []string
	if len(s.Targets) > 0 {
		words = append(words, strings.Join(s.Targets, ","))
	}
	if len(s.Protocols) > 0 {
		words = append(words, "by "+strings.Join(s.Protocols, ","))
	}
	return strings.Join(words, " ")
}
