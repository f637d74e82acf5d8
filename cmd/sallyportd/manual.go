package main

import (
	"os"

	"github.com/urfave/cli/v2"

	"sallyport/cmd/internal/manual"
)

// manualCommand writes the manual's page into a folder, for packages.
func manualCommand() *cli.Command {
	return &cli.Command{
		Name: "__manual", Hidden: true, ArgsUsage: "FOLDER",
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misused(c, "takes one folder")
			}
			return manual.Manual{
				App: c.App, Section: "8", Group: "System Administration", Version: version,
				More: manualParts, SeeAlso: []string{"sallyport(1)", "systemctl(1)"},
			}.Write(c.Args().First(), os.Getenv)
		},
	}
}

// manualParts are what no command's help says.
var manualParts = []manual.Part{
	{Title: "EXIT STATUS", Items: [][2]string{
		{"0", "It is done."},
		{"1", "It could not be done."},
		{"2", "The command was not used as it should be."},
		{"78", "The configuration is wrong; starting again would not help."},
	}},
	{Title: "SIGNALS", Items: [][2]string{
		{"SIGHUP", "serve reads access files, certificate and keys again. A bad file keeps the old one."},
		{"SIGTERM", "serve takes no new flows, tells people, and ends what is left after drain.grace."},
	}},
	{Title: "FILES", Items: [][2]string{
		{"/etc/sallyport/sallyport.yaml", "The configuration."},
		{"/etc/sallyport/access.yaml", "Who may reach what, where the configuration does not name another file or folder."},
		{"/var/lib/sallyport", "The state that the packaged configuration names: database, keys, audit log."},
		{"/run/sallyport", "The network namespaces of VNets. They outlive the daemon; release gives a NIC back."},
	}},
}
