package main

import (
	"github.com/urfave/cli/v2"

	"sallyport/client"
	"sallyport/frame"
)

func (c *command) admin() *cli.Command {
	list := &cli.Command{Name: "list", Usage: "list all devices", Action: func(x *cli.Context) error {
		if err := none(x); err != nil {
			return err
		}
		return c.listDevices(x)
	}}
	revoke := &cli.Command{
		Name: "revoke", Usage: "bar a device for good and end its flows", ArgsUsage: "ID",
		Action: func(x *cli.Context) error {
			id, err := only(x, "device ID")
			if err != nil {
				return err
			}
			return c.ask(func(api *client.API) error {
				if err := api.Revoke(x.Context, id); err != nil {
					return err
				}
				c.say("revoked " + frame.Clip(id, 64))
				return nil
			})
		},
	}
	return &cli.Command{
		Name: "admin", Usage: "administer the appliance",
		Subcommands: []*cli.Command{c.lock(), c.unlock(), c.locks(), c.hostKeys(), c.policy(), c.apply(), c.access(), c.accounts(), c.signIns(), c.enrolCode(), c.configure(), c.update(), c.clients(), {
			Name: "devices", Usage: "list enrolled devices, or revoke one",
			Description: "  sallyport admin devices\n  sallyport admin devices revoke dev-k3j9…",
			Subcommands: []*cli.Command{list, revoke},
			Action: func(x *cli.Context) error {
				if x.Args().Present() {
					return unknownCommand(x.Command.Subcommands, "sallyport admin devices", x.Args().First())
				}
				return c.listDevices(x)
			},
		}},
	}
}

func (c *command) listDevices(x *cli.Context) error {
	return c.ask(func(api *client.API) error {
		devices, err := api.Devices(x.Context)
		if err != nil {
			return err
		}
		if c.json {
			return c.print(devices)
		}
		rows := [][]string{{"DEVICE", "USER", "NAME", "PLATFORM", "ENROLLED", "LAST SEEN", "FROM", "SCOPE", "EXPIRES", "REVOKED"}}
		for _, d := range devices {
			rows = append(rows, []string{d.ID, d.User, d.Name, dash(d.Platform), when(d.Enrolled), when(d.LastSeen), dash(d.Source), dash(scope(d.Scope)), when(d.Scope.Expires), when(d.Revoked)})
		}
		return c.table(rows...)
	})
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
