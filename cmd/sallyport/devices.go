package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/frame"
)

// ownDevices are the caller's: what they have lost they can end themselves.
func (c *command) ownDevices() *cli.Command {
	return c.devices("sallyport devices", "list your devices that are signed in, or end one", (*client.API).OwnDevices, (*client.API).RevokeOwn)
}

func (c *command) allDevices() *cli.Command {
	return c.devices("sallyport admin devices", "list enrolled devices, or revoke one", (*client.API).Devices, (*client.API).Revoke)
}

func (c *command) devices(name, usage string, all func(*client.API, context.Context) ([]api.Device, error), end func(*client.API, context.Context, string) error) *cli.Command {
	show := func(x *cli.Context) error {
		return c.ask(func(api *client.API) error {
			devices, err := all(api, x.Context)
			if err != nil {
				return err
			}
			return c.printDevices(devices)
		})
	}
	return &cli.Command{
		Name: "devices", Usage: usage,
		Description: "  " + name + "\n  " + name + " revoke dev-k3j9…",
		Action: func(x *cli.Context) error {
			if x.Args().Present() {
				return unknownCommand(x.Command.Subcommands, name, x.Args().First())
			}
			return show(x)
		},
		Subcommands: []*cli.Command{{
			Name: "list", Usage: "list them",
			Action: func(x *cli.Context) error {
				if err := none(x); err != nil {
					return err
				}
				return show(x)
			},
		}, {
			Name: "revoke", Usage: "bar a device for good and end its flows", ArgsUsage: "ID",
			Action: func(x *cli.Context) error {
				id, err := only(x, "device ID")
				if err != nil {
					return err
				}
				return c.ask(func(api *client.API) error {
					if err := end(api, x.Context, id); err != nil {
						return err
					}
					c.say("revoked " + frame.Clip(id, 64))
					return nil
				})
			},
		}},
	}
}

func (c *command) printDevices(devices []api.Device) error {
	if c.json {
		return c.print(devices)
	}
	rows := [][]string{{"DEVICE", "USER", "NAME", "PLATFORM", "ENROLLED", "LAST SEEN", "FROM", "SCOPE", "EXPIRES", "REVOKED"}}
	for _, d := range devices {
		rows = append(rows, []string{d.ID, d.User, d.Name, dash(d.Platform), when(d.Enrolled), when(d.LastSeen), dash(d.Source), dash(scope(d.Scope)), when(d.Scope.Expires), when(d.Revoked)})
	}
	return c.table(rows...)
}
