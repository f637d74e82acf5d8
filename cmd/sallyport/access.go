package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/frame"
)

// access is the versions of the access files.
func (c *command) access() *cli.Command {
	return &cli.Command{
		Name: "access", Usage: "list, show and compare versions of the access files",
		Description: "  sallyport admin access list\n  sallyport admin access diff 6 7\n  sallyport admin access rollback 6",
		Subcommands: []*cli.Command{c.accessList(), c.accessShow(), c.accessDiff(), c.rollback()},
	}
}

func (c *command) accessList() *cli.Command {
	return &cli.Command{Name: "list", Usage: "list the versions, the latest first", Action: func(x *cli.Context) error {
		if err := none(x); err != nil {
			return err
		}
		return c.ask(func(to *client.API) error {
			list, err := to.AccessVersions(x.Context)
			if err != nil {
				return err
			}
			if c.json {
				return c.print(list)
			}
			rows := [][]string{{"VERSION", "SINCE", "BY", "HASH", "COMMENT"}}
			for _, v := range list {
				rows = append(rows, []string{strconv.FormatInt(v.Version, 10), when(v.Created), v.By, frame.Clip(v.Hash, 19), dash(v.Comment)})
			}
			return c.table(rows...)
		})
	}}
}

func (c *command) accessShow() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "print the files of a version", ArgsUsage: "[VERSION]",
		Description: "Of the one in force, unless you name another.",
		Action: func(x *cli.Context) error {
			version := "active"
			if x.NArg() > 0 {
				var err error
				if version, err = only(x, "version"); err != nil {
					return err
				}
			}
			return c.ask(func(to *client.API) error {
				v, err := to.AccessVersion(x.Context, version)
				if err != nil {
					return err
				}
				if c.json {
					return c.print(v)
				}
				for _, name := range slices.Sorted(maps.Keys(v.Files)) {
					fmt.Fprintf(c.Stdout, "# %s of version %d\n", frame.Clip(name, 120), v.Version)
					for line := range strings.Lines(string(v.Files[name])) {
						line = strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "\t", "    ")
						fmt.Fprintln(c.Stdout, frame.Clip(line, len(line)))
					}
				}
				return nil
			})
		},
	}
}

func (c *command) accessDiff() *cli.Command {
	return &cli.Command{
		Name: "diff", Usage: "say what differs between two versions", ArgsUsage: "FROM TO",
		Description: "A version is a number, or active for the one in force.",
		Action: func(x *cli.Context) error {
			if x.NArg() != 2 {
				return misused(x, fmt.Sprintf("takes two versions, not %d arguments", x.NArg()))
			}
			return c.ask(func(to *client.API) error {
				changes, err := to.AccessDiff(x.Context, x.Args().Get(0), x.Args().Get(1))
				if err != nil {
					return err
				}
				if c.json {
					return c.print(changes)
				}
				if len(changes) == 0 {
					c.say("nothing that counts differs")
				}
				var text strings.Builder
				tellChanges(&text, changes)
				_, err = fmt.Fprint(c.Stdout, text.String())
				return err
			})
		},
	}
}

func (c *command) rollback() *cli.Command {
	return &cli.Command{
		Name: "rollback", Usage: "put an old version in force again", ArgsUsage: "VERSION",
		Description: "It becomes the latest version. You see what changes, and are asked.",
		Flags:       applyFlags(),
		Action: func(x *cli.Context) error {
			text, err := only(x, "version")
			if err != nil {
				return err
			}
			version, err := strconv.ParseInt(text, 10, 64)
			if err != nil || version < 1 {
				return usage(fmt.Sprintf("%q is not a version", frame.Clip(text, 32)), "sallyport admin access list shows them")
			}
			return c.takeAccess(x, api.ApplyAccess{Rollback: version})
		},
	}
}
