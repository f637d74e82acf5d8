package main

import (
	"cmp"

	"github.com/urfave/cli/v2"

	"sallyport/client"
	"sallyport/frame"
)

func (c *command) hostKeys() *cli.Command {
	confirm := &cli.Command{
		Name: "confirm", Usage: "say that a target's host key is good", ArgsUsage: "TARGET FINGERPRINT",
		Description: "  sallyport admin hostkeys confirm db-1 SHA256:vN4k…\n\nThe key that the target is known by, or the one that it was refused for,\nwhich then takes that one's place. Compare it on the target itself:\n\n  ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
		Action: func(x *cli.Context) error {
			if x.NArg() != 2 {
				return usage("takes a target and a fingerprint", "sallyport admin hostkeys lists them")
			}
			target, fingerprint := x.Args().Get(0), x.Args().Get(1)
			return c.ask(func(api *client.API) error {
				if err := api.ConfirmHostKey(x.Context, target, fingerprint); err != nil {
					return err
				}
				c.say("confirmed the host key of " + frame.Clip(target, 64))
				return nil
			})
		},
	}
	forget := &cli.Command{
		Name: "forget", Usage: "take a target's next key for its first", ArgsUsage: "TARGET",
		Description: "For a machine that was set up anew. All keys that it is known by are\nforgotten; the next one that it shows is pinned, or waits for a confirmation\nwhere the appliance has ssh.first_use: confirm. Nothing that is open ends.",
		Action: func(x *cli.Context) error {
			target, err := only(x, "target")
			if err != nil {
				return err
			}
			return c.ask(func(api *client.API) error {
				if err := api.ForgetHostKeys(x.Context, target); err != nil {
					return err
				}
				c.say("forgot the host keys of " + frame.Clip(target, 64))
				return nil
			})
		},
	}
	return &cli.Command{
		Name: "hostkeys", Usage: "SSH host keys and certificates of targets", ArgsUsage: "[TARGET]",
		Description: "  sallyport admin hostkeys\n  sallyport admin hostkeys db-1\n  sallyport admin hostkeys confirm db-1 SHA256:vN4k…\n  sallyport admin hostkeys forget db-1\n\nThe certificate of a desktop has a target of its own, such as rdp:win-1.",
		Subcommands: []*cli.Command{confirm, forget},
		Action: func(x *cli.Context) error {
			target := ""
			if x.Args().Present() {
				var err error
				if target, err = only(x, "target"); err != nil {
					return err
				}
			}
			return c.listHostKeys(x, target)
		},
	}
}

func (c *command) listHostKeys(x *cli.Context, target string) error {
	return c.ask(func(api *client.API) error {
		list, err := api.HostKeys(x.Context, target)
		switch {
		case err != nil:
			return err
		case c.json:
			return c.print(list)
		case len(list) == 0:
			c.say("no host keys are known")
			return nil
		}
		rows := [][]string{{"TARGET", "KEY", "SEEN", "STATE", "BY"}}
		for _, k := range list {
			state := "first seen"
			switch {
			case k.Refused:
				state = "REFUSED"
			case !k.Confirmed.IsZero():
				state = "confirmed"
			}
			rows = append(rows, []string{k.Target, cmp.Or(k.Fingerprint, "-"), when(k.Seen), state, dash(k.By)})
		}
		return c.table(rows...)
	})
}
