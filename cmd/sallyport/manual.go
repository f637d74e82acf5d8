package main

import (
	"github.com/urfave/cli/v2"

	"sallyport/cmd/internal/manual"
)

// manual writes the manual's pages into a folder, for packages.
func (c *command) manual() *cli.Command {
	return &cli.Command{
		Name: "__manual", Hidden: true, ArgsUsage: "FOLDER",
		Action: func(x *cli.Context) error {
			folder, err := only(x, "folder")
			if err != nil {
				return err
			}
			return manual.Manual{
				App: x.App, Section: "1", Group: "User Commands", Version: versionText(), Split: true,
				More: manualParts, SeeAlso: []string{"ssh(1)", "sallyportd(8)"},
			}.Write(folder, c.Getenv)
		},
	}
}

// manualParts are what no command's help says.
var manualParts = []manual.Part{
	{Title: "EXIT STATUS", Items: [][2]string{
		{"0", "It is done."},
		{"1", "It could not be done, and none of what follows is why."},
		{"2", "The command was not used as it should be."},
		{"10", "Sign in, or sign in again."},
		{"11", "Denied."},
		{"12", "The target was not reached."},
		{"13", "The target is not who it should be."},
		{"14", "The appliance was not reached."},
		{"15", "Command and appliance are of versions that do not know each other."},
		{"16", "The appliance is busy."},
		{"17", "The connection was lost."},
		{"70", "A bug; please report it."},
		{"130", "Interrupted."},
	}},
	{Title: "ENVIRONMENT", Items: [][2]string{
		{"SALLYPORT_HOME", "The folder for sign-ins, instead of sallyport in the folder for configuration."},
		{"SALLYPORT_NO_AGENT", "Unless empty or 0: as --no-agent."},
		{"SALLYPORT_KEEP_TRANSPORT", "Unless empty or 0: as --keep-transport."},
		{"HTTPS_PROXY, NO_PROXY", "The proxy by which HTTPS is reached, and where not to use it."},
	}},
	{Title: "FILES", Items: [][2]string{
		{"~/.config/sallyport/profiles.json", "The appliances that this device is signed in to."},
		{"~/.config/sallyport/NAME.key", "The device key for one of them, where it is not in a keychain."},
	}},
}
