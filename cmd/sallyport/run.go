package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/policy/spell"
	"sallyport/frame"
	"sallyport/transport"
)

// exitStatus is the error of a command that another program has ended: the status is that program's.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// run runs the command that env.Args say and returns its exit status.
func run(ctx context.Context, env Env) int {
	c := &command{Env: env}
	app := c.app()
	c.json = slices.Contains(env.Args, "--json") // even if the arguments do not parse
	err := app.RunContext(ctx, append([]string{app.Name}, arrange(app, env.Args)...))
	var status exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		err = context.Canceled
	}
	return c.fail(err)
}

func (c *command) app() *cli.App {
	app := &cli.App{
		Name:      "sallyport",
		Usage:     "reach targets that have no public address",
		UsageText: "sallyport [--appliance NAME] [--transport auto|quic|https] [--json] COMMAND …",
		Description: "A target is a machine with the protocols that it offers: ssh, rdp, tcp.\n\n" +
			"Begin with:  sallyport login https://BASTION\nThen:        sallyport ls; sallyport ssh TARGET",
		Writer:      c.Stdout,
		ErrWriter:   io.Discard, // errors are told by run
		Reader:      c.Stdin,
		HideVersion: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "appliance", Usage: "which appliance, by its `NAME` of login; default: the last"},
			&cli.StringFlag{Name: "transport", Usage: "`HOW` to reach it: auto (by what works), quic or https"},
			&cli.BoolFlag{Name: "keep-transport", Usage: "no bulk moves to HTTPS, as with SALLYPORT_KEEP_TRANSPORT=1"},
			&cli.BoolFlag{Name: "no-agent", Usage: "connect by this command alone, as with SALLYPORT_NO_AGENT=1"},
			&cli.BoolFlag{Name: "json", Usage: "print results and errors as JSON"},
			cli.HelpFlag, // which cli adds only where it has added its own help command
		},
		Commands: []*cli.Command{
			c.login(), c.logout(), c.ls(), c.status(), c.sessions(), c.ownDevices(), c.request(), c.approvals(), c.approve(), c.deny(), c.share(), c.ssh(), c.rdp(), c.tunnel(), c.proxy(),
			c.configSSH(), c.knownHosts(), c.agent(), c.doctor(), c.bench(), c.audit(), c.admin(), c.completion(), c.complete(), c.manual(), c.version(), c.help(),
		},
		Before: func(x *cli.Context) (err error) {
			c.json, c.appliance, c.noAgent = x.Bool("json"), x.String("appliance"), x.Bool("no-agent")
			c.keepTransport = x.Bool("keep-transport")
			if c.mode, err = transport.ParseMode(x.String("transport")); err != nil {
				return usage(err.Error(), "")
			}
			return nil
		},
		Action: func(x *cli.Context) error {
			if !x.Args().Present() {
				return cli.ShowAppHelp(x)
			}
			return unknownCommand(x.App.Commands, "sallyport", x.Args().First())
		},
		ExitErrHandler: func(*cli.Context, error) {}, // run tells
		OnUsageError:   func(x *cli.Context, err error, _ bool) error { return badFlag("sallyport", x.App.Flags, err) },
	}
	plainFlags(app.Flags)
	prepare("sallyport", app.Commands)
	return app
}

// prepare gives commands what cli would otherwise decide in a voice of its own.
func prepare(parent string, commands []*cli.Command) {
	for _, command := range commands {
		name := parent + " " + command.Name
		command.HideHelpCommand = true
		command.OnUsageError = func(x *cli.Context, err error, _ bool) error {
			return badFlag(name, append(slices.Clone(command.Flags), x.App.Flags...), err)
		}
		plainFlags(command.Flags)
		command.UsageText = strings.TrimRight(name+options(command)+" "+command.ArgsUsage, " ")
		if len(command.Subcommands) > 0 && command.Action == nil {
			command.Action = func(x *cli.Context) error {
				if !x.Args().Present() {
					return cli.ShowSubcommandHelp(x)
				}
				return unknownCommand(command.Subcommands, name, x.Args().First())
			}
		}
		prepare(name, command.Subcommands)
	}
}

// options stands for a command's flags, where it has any besides --help.
func options(command *cli.Command) string {
	switch {
	case len(command.Subcommands) > 0 && command.ArgsUsage == "":
		return " COMMAND"
	case len(command.Flags) > 0:
		return " [options]"
	}
	return ""
}

// plainFlags keeps the help from saying of each flag that it is false unless it is given.
func plainFlags(flags []cli.Flag) {
	for _, f := range flags {
		if b, ok := f.(*cli.BoolFlag); ok {
			b.DisableDefaultText = true
		}
	}
}

// help is "sallyport help COMMAND", which says what "sallyport COMMAND --help" does.
func (c *command) help() *cli.Command {
	return &cli.Command{
		Name: "help", Usage: "show what a command does, and its flags", ArgsUsage: "[COMMAND]",
		Action: func(x *cli.Context) error {
			path, commands := []string{x.App.Name}, x.App.Commands
			for _, word := range x.Args().Slice() {
				i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(word) })
				if i < 0 {
					return unknownCommand(commands, strings.Join(path, " "), word)
				}
				path, commands = append(path, word), commands[i].Subcommands
			}
			return c.app().RunContext(x.Context, append(path, "--help"))
		},
	}
}

func unknownCommand(commands []*cli.Command, parent, name string) error {
	hint := "run: " + parent + " --help"
	var names []string
	for _, c := range visible(commands) {
		names = append(names, c.Name)
	}
	if near := spell.Near(name, names, 1); len(near) > 0 {
		hint = "did you mean: " + parent + " " + near[0]
	}
	return usage(fmt.Sprintf("there is no command %q", name), hint)
}

func visible(commands []*cli.Command) []*cli.Command {
	return slices.DeleteFunc(slices.Clone(commands), func(c *cli.Command) bool { return c.Hidden })
}

// badFlag says what is wrong with a flag of a command in our words, where cli says it in the flag package's.
func badFlag(command string, flags []cli.Flag, err error) error {
	text, hint := err.Error(), "see: "+command+" --help"
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		name = strings.TrimPrefix(name, "-")
		var names []string
		for _, f := range flags {
			if v, ok := f.(cli.VisibleFlag); ok && v.IsVisible() {
				names = append(names, slices.DeleteFunc(f.Names(), func(n string) bool { return len(n) < 2 })...)
			}
		}
		if near := spell.Near(name, names, 1); len(near) > 0 {
			hint = "did you mean: " + dashed(near[0])
		} else if name == "version" {
			hint = "run: sallyport version"
		}
		return usage("there is no flag "+dashed(name), hint)
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return usage(dashed(strings.TrimPrefix(name, "-"))+" needs a value", hint)
	}
	if m := badValue.FindStringSubmatch(text); m != nil {
		return usage(m[1]+" is no value for "+dashed(m[2]), hint)
	}
	return usage(text, hint)
}

// badValue is how the flag package says that a value does not parse.
var badValue = regexp.MustCompile(`^invalid (?:boolean )?value ("[^"]*") for (?:flag )?-([^:]+):`)

// dashed is a flag as people write it.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// arrange puts flags where cli looks for them: those for all commands before the command, the command's own before its
// arguments. A command that does not parse flags gets what follows it as it is.
func arrange(app *cli.App, args []string) []string {
	var global, own, rest []string
	commands, flags := app.Commands, app.Flags
	var path []string
	for len(args) > 0 {
		arg := args[0]
		switch {
		case arg == "--":
			rest = append(rest, args[1:]...)
			args = nil
			continue
		case len(arg) < 2 || arg[0] != '-':
			next := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(arg) })
			args = args[1:]
			if len(rest) > 0 || next < 0 {
				rest = append(rest, arg)
				commands = nil
				continue
			}
			path = append(path, arg)
			if commands[next].SkipFlagParsing {
				return slices.Concat(global, path, args)
			}
			flags, commands = commands[next].Flags, commands[next].Subcommands
			continue
		}
		n := 1
		isGlobal, takesGlobal := lookup(app.Flags, arg)
		_, takesOwn := lookup(flags, arg)
		if (takesGlobal || takesOwn) && !strings.Contains(arg, "=") {
			n = min(2, len(args))
		}
		if isGlobal {
			global = append(global, args[:n]...)
		} else {
			own = append(own, args[:n]...)
		}
		args = args[n:]
	}
	switch {
	case asksHelp(own) && slices.Equal(path, []string{"help"}):
		own = nil // it shows help anyhow, of what follows
	case asksHelp(own):
		return slices.Concat(global, path, []string{"--help"})
	}
	if len(rest) > 0 {
		own = append(own, "--")
	}
	return slices.Concat(global, path, own, rest)
}

// asksHelp says whether a person wants to know how a command is used, whatever else they wrote.
func asksHelp(flags []string) bool {
	return slices.Contains(flags, "--help") || slices.Contains(flags, "-h")
}

// lookup finds the flag that arg sets. --help is never one for all commands: it is about the command that it follows.
func lookup(flags []cli.Flag, arg string) (found, takesValue bool) {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	for _, f := range flags {
		if f != cli.HelpFlag && slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return true, !isBool
		}
	}
	return false, false
}

// only returns a command's one argument.
func only(x *cli.Context, what string) (string, error) {
	if x.NArg() != 1 {
		return "", misused(x, fmt.Sprintf("takes one %s, not %d arguments", what, x.NArg()))
	}
	return x.Args().First(), nil
}

// none refuses arguments.
func none(x *cli.Context) error {
	if x.NArg() > 0 {
		return misused(x, fmt.Sprintf("takes no argument %q", frame.Clip(x.Args().First(), 64)))
	}
	return nil
}

// misused says how a command is to be used, by the name with all that stands before it.
func misused(x *cli.Context, how string) error {
	path := x.Command.HelpName
	return usage(strings.TrimPrefix(path, x.App.Name+" ")+" "+how, "see: "+path+" --help")
}
