package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
)

func (c *command) configSSH() *cli.Command {
	return &cli.Command{
		Name: "config-ssh", Usage: "print configuration by which ssh knows the targets",
		Description: `With it ssh, scp, sftp, rsync, git and all that use ssh take a target's name.

  sallyport config-ssh --write ~/.ssh/sallyport.conf

and, once, at the top of ~/.ssh/config:  Include sallyport.conf
Run it again when targets have changed.`,
		Flags: []cli.Flag{&cli.StringFlag{Name: "write", Usage: "write to `FILE` instead of stdout"}},
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			profile, err := c.profileName()
			if err != nil {
				return err
			}
			var text string
			err = c.ask(func(api *client.API) error {
				targets, err := api.Targets(x.Context)
				text = c.sshConfig(profile, targets)
				return err
			})
			if err != nil {
				return err
			}
			file := x.String("write")
			if file == "" {
				_, err := fmt.Fprint(c.Stdout, text)
				return err
			}
			if err := replaceFile(file, text); err != nil {
				return usage("the configuration was not written: "+err.Error(), "")
			}
			c.say("wrote " + file + "; ssh reads it if ~/.ssh/config begins with: Include " + file)
			return nil
		},
	}
}

// sshConfig has a block for each target that speaks ssh.
func (c *command) sshConfig(profile string, targets []api.Target) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made by: sallyport --appliance %s config-ssh\n", profile)
	for _, t := range targets {
		ports := t.Protocols["ssh"]
		if name, _, err := client.ParseTarget(t.Name); err != nil || name != t.Name || len(ports) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\nHost %s\n", t.Name)
		if ports[0] != 22 {
			fmt.Fprintf(&b, "    Port %d\n", ports[0])
		}
		must, may := c.sshOptions(profile, t.Name+":%p", t.Name, knows(t))
		for _, o := range slices.Concat(must, may) {
			fmt.Fprintf(&b, "    %s %s\n", o.key, o.value)
		}
	}
	return b.String()
}

// replaceFile writes a file of the person's as a whole.
func replaceFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // in vain once it is renamed
	_, err = f.WriteString(text)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
