package main

import (
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/frame"
)

// lockable reads a kind and a name.
func lockable(x *cli.Context) (kind, name string, err error) {
	if kind = x.Args().Get(0); x.NArg() != 2 || kind != "user" && kind != "device" && kind != "target" {
		return "", "", usage("takes a kind and a name", "such as: user ann, device dev-k3j9…, target db-1")
	}
	return kind, x.Args().Get(1), nil
}

func (c *command) lock() *cli.Command {
	return &cli.Command{
		Name: "lock", Usage: "bar a user, a device or a target at once", ArgsUsage: "user|device|target NAME",
		Description: "  sallyport admin lock user ann --why 'the laptop is lost' --for 2h\n\nWhatever the rules say. Sessions that it concerns end within seconds; those\nwhom it stops are told why.",
		Flags: []cli.Flag{
			&cli.DurationFlag{Name: "for", Usage: "so `LONG`, such as 2h", DefaultText: "for good"},
			&cli.StringFlag{Name: "why", Usage: "tell them `TEXT`"},
		},
		Action: func(x *cli.Context) error {
			kind, name, err := lockable(x)
			if err != nil {
				return err
			}
			l := api.Lock{Kind: kind, Name: name, Why: x.String("why")}
			switch long := x.Duration("for"); {
			case long < 0:
				return usage("--for must be a time to come", "such as --for 2h")
			case long > 0:
				l.Until = time.Now().Add(long)
			}
			return c.ask(func(api *client.API) error {
				if err := api.Lock(x.Context, l); err != nil {
					return err
				}
				c.say(fmt.Sprintf("locked %s %s", kind, frame.Clip(name, 64)))
				return nil
			})
		},
	}
}

func (c *command) unlock() *cli.Command {
	return &cli.Command{
		Name: "unlock", Usage: "take a lock off", ArgsUsage: "user|device|target NAME",
		Description: "  sallyport admin unlock user ann\n\nThe rules decide on new sessions again. What the lock has ended stays ended.",
		Action: func(x *cli.Context) error {
			kind, name, err := lockable(x)
			if err != nil {
				return err
			}
			return c.ask(func(api *client.API) error {
				if err := api.Unlock(x.Context, kind, name); err != nil {
					return err
				}
				c.say(fmt.Sprintf("unlocked %s %s", kind, frame.Clip(name, 64)))
				return nil
			})
		},
	}
}

func (c *command) locks() *cli.Command {
	return &cli.Command{
		Name: "locks", Usage: "list what is locked",
		Description: "By whom, why, and until when. sallyport admin unlock takes one off.",
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			return c.ask(func(api *client.API) error {
				list, err := api.Locks(x.Context)
				switch {
				case err != nil:
					return err
				case c.json:
					return c.print(list)
				case len(list) == 0:
					c.say("nothing is locked")
					return nil
				}
				rows := [][]string{{"KIND", "NAME", "BY", "SINCE", "UNTIL", "WHY"}}
				for _, l := range list {
					rows = append(rows, []string{l.Kind, l.Name, l.By, when(l.Since), when(l.Until), dash(l.Why)})
				}
				return c.table(rows...)
			})
		},
	}
}
