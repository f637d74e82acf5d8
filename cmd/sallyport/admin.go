package main

import "github.com/urfave/cli/v2"

func (c *command) admin() *cli.Command {
	return &cli.Command{
		Name: "admin", Usage: "administer the appliance",
		Subcommands: []*cli.Command{c.lock(), c.unlock(), c.locks(), c.hostKeys(), c.policy(), c.apply(), c.access(), c.accounts(), c.signIns(), c.enrolCode(), c.configure(), c.update(), c.clients(), c.allDevices()},
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
