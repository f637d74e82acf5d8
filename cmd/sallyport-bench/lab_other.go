//go:build !linux

package main

import "github.com/urfave/cli/v2"

func labCommand(env) *cli.Command {
	return &cli.Command{
		Name: "lab", Usage: "is for Linux, whose network namespaces it needs",
		Action: func(*cli.Context) error {
			return misused("lab needs the network namespaces of Linux; run it there, as root")
		},
	}
}

func hiddenCommands(env) []*cli.Command { return nil }
