package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/frame"
)

// What an appliance takes, so that more is not read here.
const (
	maxAccessFiles = 200
	maxAccessFile  = 1 << 20
)

func (c *command) apply() *cli.Command {
	return &cli.Command{
		Name: "apply", Usage: "see what access files change, and take them",
		Description: "  sallyport admin apply -f access/ --dry-run\n  sallyport admin apply -f access/ --comment 'db-2 is new'\n\n" +
			"The appliance reads and tests the files, and says which targets, groups,\nrules, policies and accounts change and whose sessions end. Then all of it is\n" +
			"taken, or nothing. A folder's *.yaml and *.cedar count. Exit status: 1 if the\nfiles have faults, or you say no.",
		Flags: slices.Concat([]cli.Flag{&cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "the folder, or access.yaml, at `PATH`; must be given"}}, applyFlags()),
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			if x.String("file") == "" {
				return usage("--file is needed", "such as -f access/")
			}
			files, err := readAccess(x.String("file"))
			if err != nil {
				return err
			}
			return c.takeAccess(x, api.ApplyAccess{Files: files})
		},
	}
}

func applyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "dry-run", Usage: "only say what changes"},
		&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
		&cli.BoolFlag{Name: "force", Usage: "even if you are no administrator afterwards"},
		&cli.StringFlag{Name: "comment", Usage: "keep `TEXT` with the version"},
	}
}

// readAccess reads a file, or those of a folder that count.
func readAccess(path string) (map[string][]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(err)
	}
	if !info.IsDir() {
		data, err := readAccessFile(path)
		return map[string][]byte{"access.yaml": data}, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, unreadable(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		name := e.Name()
		if ext := filepath.Ext(name); strings.HasPrefix(name, ".") || ext != ".yaml" && ext != ".cedar" {
			continue
		}
		if len(files) == maxAccessFiles {
			return nil, usage(fmt.Sprintf("%s has more than %d access files", path, maxAccessFiles), "")
		}
		if files[name], err = readAccessFile(filepath.Join(path, name)); err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, usage(fmt.Sprintf("there are no access files in %s", path), "they are access.yaml and *.cedar")
	}
	return files, nil
}

func readAccessFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxAccessFile+1))
	switch {
	case err != nil:
		return nil, unreadable(err)
	case len(data) > maxAccessFile:
		return nil, usage(fmt.Sprintf("%s is longer than %d bytes", path, maxAccessFile), "split its policies among several files")
	}
	return data, nil
}

func unreadable(err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return usage(fmt.Sprintf("%s cannot be read: %v", file.Path, file.Err), "")
	}
	return usage(err.Error(), "")
}

// takeAccess shows what a version changes, asks, and has it taken.
func (c *command) takeAccess(x *cli.Context, ask api.ApplyAccess) error {
	ask.DryRun, ask.Comment = true, x.String("comment")
	return c.ask(func(to *client.API) error {
		plan, err := to.ApplyAccess(x.Context, ask)
		if err != nil {
			return err
		}
		if len(plan.Faults) > 0 || x.Bool("dry-run") || len(plan.Changes) == 0 {
			return c.showPlan(plan)
		}
		if !c.json || !x.Bool("yes") {
			c.tellPlan(plan, c.Stderr)
		}
		if err := c.mayApply(x, plan); err != nil {
			return err
		}
		ask.DryRun, ask.Expected, ask.Force = false, plan.Version, x.Bool("force")
		taken, err := to.ApplyAccess(x.Context, ask)
		if err != nil {
			return err
		}
		if c.json {
			return c.print(taken)
		}
		c.say(fmt.Sprintf("version %d is in force", taken.Taken))
		return nil
	})
}

// mayApply asks the person, or goes by the flags.
func (c *command) mayApply(x *cli.Context, plan api.AccessPlan) error {
	if plan.NeedsForce && !x.Bool("force") {
		return frame.Refuse("E_LOCKOUT", frame.Clip(plan.Warnings[0], 200), "use --force if that is what you want")
	}
	if x.Bool("yes") {
		return nil
	}
	tty, isTTY := terminal(c.Stdin)
	if !isTTY {
		return usage("there is no terminal to ask whether to apply this", "use --yes, or --dry-run only to look")
	}
	yes, err := c.confirm(x.Context, tty, "apply this? [y/N] ")
	if err == nil && !yes {
		c.say("nothing was changed")
		return exitStatus(1)
	}
	return err
}

// confirm asks a question on the terminal. Only y and yes are one.
func (c *command) confirm(ctx context.Context, tty *os.File, question string) (bool, error) {
	fmt.Fprint(c.Stderr, question)
	typed := make(chan string, 1)
	go func() { // a read from a terminal ends only with a line; after an interrupt the process does
		line, _ := bufio.NewReader(io.LimitReader(tty, 64)).ReadString('\n')
		typed <- line
	}()
	select {
	case line := <-typed:
		answer := strings.ToLower(strings.TrimSpace(line))
		return answer == "y" || answer == "yes", nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// showPlan prints a plan as the result.
func (c *command) showPlan(plan api.AccessPlan) (err error) {
	if c.json {
		err = c.print(plan)
	} else {
		err = c.tellPlan(plan, c.Stdout)
	}
	if err == nil && len(plan.Faults) > 0 {
		return exitStatus(1)
	}
	return err
}

// tellPlan says what a plan is, a line for each thing.
func (c *command) tellPlan(plan api.AccessPlan, to io.Writer) error {
	for _, f := range plan.Faults {
		c.say(frame.Clip(f, 500))
	}
	for _, w := range plan.Warnings {
		c.say("warning: " + frame.Clip(w, 500))
	}
	if len(plan.Faults) > 0 {
		return nil
	}
	var text strings.Builder
	if len(plan.Changes) == 0 {
		fmt.Fprintf(&text, "nothing changes: version %d says the same\n", plan.Version)
	}
	tellChanges(&text, plan.Changes)
	for _, e := range plan.Ends {
		fmt.Fprintf(&text, "ends session %s of %s to %s: %s\n", shortID(e.Session), frame.Clip(e.User, 64), frame.Clip(e.Target, 64), frame.Clip(e.Why, 200))
	}
	_, err := io.WriteString(to, text.String())
	return err
}

// signs of what becomes of a thing.
var signs = map[string]string{"added": "+", "changed": "~", "removed": "-"}

func tellChanges(text *strings.Builder, changes []api.AccessChange) {
	for _, ch := range changes {
		sign, known := signs[ch.Action]
		if !known {
			sign = "?"
		}
		fmt.Fprintf(text, "%s %s %s\n", sign, frame.Clip(ch.Kind, 32), frame.Clip(ch.Name, 100))
		for _, k := range ch.Keys {
			key, was, is := frame.Clip(k.Key, 32), frame.Clip(k.Was, 200), frame.Clip(k.Is, 200)
			switch {
			case ch.Action != "changed":
				fmt.Fprintf(text, "    %s: %s\n", key, is+was) // one of them is empty
			case was == "":
				fmt.Fprintf(text, "    %s: now %s\n", key, is)
			case is == "":
				fmt.Fprintf(text, "    %s: no more %s\n", key, was)
			default:
				fmt.Fprintf(text, "    %s: %s → %s\n", key, was, is)
			}
		}
	}
}
