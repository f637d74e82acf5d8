// Command sallyportd is the appliance daemon.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/config"
	"sallyport/frame"
	"sallyport/host"
	"sallyport/host/boot"
)

// version is set by the linker.
var version = "0.1.0-dev"

func software() string {
	return "sallyportd " + version + " " + runtime.GOOS + "/" + runtime.GOARCH
}

func main() {
	slog.SetDefault(logger(env{stderr: os.Stderr})) // what libraries remark on has the form of our lines
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, env{called(os.Args), os.Stdin, os.Stdout, os.Stderr}))
}

// env is what a run of the program sees of the world.
type env struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

// Exit statuses, after sysexits.h where it has one.
const (
	exitUsage  = 2
	exitConfig = 78 // host.Parent takes it from a worker as "do not start me again"
)

// run is the whole program; it returns the exit status.
func run(ctx context.Context, e env) int {
	app := &cli.App{
		Name:      "sallyportd",
		Usage:     "the appliance: brings people to a private network's SSH and RDP",
		Writer:    e.stdout,
		ErrWriter: e.stderr,
		Version:   version,
		ExitErrHandler: func(*cli.Context, error) {
			// run says it, once
		},
		HideVersion: true,
		UsageText:   "sallyportd COMMAND …",
		Flags:       []cli.Flag{cli.HelpFlag}, // which cli adds only where it has added its own help command
		Commands: []*cli.Command{
			serveCommand(e),
			workerCommand(e),
			fetchCommand(e),
			setupCommand(e),
			initCommand(e),
			leaseCommand(e),
			volumeCommand(e),
			stopCommand("poweroff", boot.PowerOff),
			stopCommand("reboot", boot.Restart),
			checkCommand(e),
			demoCommand(e),
			enrolCodeCommand(e),
			accountsCommand(e),
			applyCommand(e),
			unlockCommand(e),
			caKeyCommand(e),
			caRotateCommand(e),
			releaseCommand(e),
			backupCommand(),
			restoreCommand(),
			{
				Name: "version", Usage: "print the version",
				Action: func(c *cli.Context) error {
					if err := none(c); err != nil {
						return err
					}
					fmt.Fprintln(e.stdout, software(), build())
					return nil
				},
			},
			helpCommand(),
			manualCommand(),
		},
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return cli.ShowAppHelp(c)
			}
			return unknownCommand(c.Args().First())
		},
		OnUsageError: badUsage("sallyportd"),
	}
	for _, command := range app.Commands {
		command.HideHelpCommand = true
		command.UsageText = "sallyportd " + command.Name
		if len(command.Flags) > 0 {
			command.UsageText += " [options]"
		}
		if command.ArgsUsage != "" {
			command.UsageText += " " + command.ArgsUsage
		}
		for _, f := range command.Flags {
			if b, ok := f.(*cli.BoolFlag); ok {
				b.DisableDefaultText = true // which would say that it is false
			}
		}
		command.OnUsageError = badUsage("sallyportd " + command.Name)
	}
	args := e.args
	if i := slices.IndexFunc(args, func(arg string) bool { return arg == "--help" || arg == "-h" }); i >= 0 {
		args = args[:i+1] // cli would look for help on what follows
	}
	err := app.RunContext(ctx, args)
	var status *exit
	var ended *host.ExitError
	var faults config.Faults
	if err == nil {
		return 0
	}
	if errors.As(err, &ended) {
		return ended.Code
	}
	code := 1
	if errors.As(err, &status) {
		code = status.code
	}
	if errors.As(err, &faults) {
		fmt.Fprintln(e.stderr, strings.TrimRight(faults.Error(), "\n"))
		return code
	}
	fmt.Fprintf(e.stderr, "sallyportd: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	if status != nil && status.hint != "" {
		fmt.Fprintf(e.stderr, "sallyportd: hint: %s\n", status.hint)
	}
	return code
}

// helpCommand is "sallyportd help COMMAND", which says what "sallyportd COMMAND --help" does.
func helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Usage: "show what a command does, and its flags", ArgsUsage: "[COMMAND]",
		Action: func(c *cli.Context) error {
			switch name := c.Args().First(); {
			case c.NArg() > 1:
				return misused(c, fmt.Sprintf("takes one command, not %d", c.NArg()))
			case name == "":
				return cli.ShowAppHelp(c)
			case c.App.Command(name) == nil:
				return unknownCommand(name)
			default:
				return c.App.RunContext(c.Context, []string{c.App.Name, name, "--help"})
			}
		},
	}
}

func unknownCommand(name string) error {
	return fail(exitUsage, "run: sallyportd --help", "there is no command %q", frame.Clip(name, 64))
}

// none refuses arguments.
func none(c *cli.Context) error {
	if !c.Args().Present() {
		return nil
	}
	return misused(c, fmt.Sprintf("takes no argument %q", frame.Clip(c.Args().First(), 64)))
}

// misused says how a command is to be used.
func misused(c *cli.Context, how string) error {
	hint := "see: " + c.Command.HelpName + " --help"
	if slices.ContainsFunc(c.Args().Slice(), func(arg string) bool { return strings.HasPrefix(arg, "-") }) {
		hint = "put flags before arguments; " + hint
	}
	return fail(exitUsage, hint, "%s %s", c.Command.Name, how)
}

// badFlags are the ways in which the flag package says that a flag is wrong, and ours.
var badFlags = []struct {
	theirs *regexp.Regexp
	ours   string
}{
	{regexp.MustCompile(`^flag provided but not defined: (-.)$`), "there is no flag $1"},
	{regexp.MustCompile(`^flag provided but not defined: -(.+)$`), "there is no flag --$1"},
	{regexp.MustCompile(`^flag needs an argument: (-.)$`), "$1 needs a value"},
	{regexp.MustCompile(`^flag needs an argument: -(.+)$`), "--$1 needs a value"},
	{regexp.MustCompile(`^invalid (?:boolean )?value ("[^"]*") for (?:flag )?-([^:]+):.*$`), "$1 is no value for --$2"},
}

// badUsage says what is wrong with a command's flags, in one line.
func badUsage(command string) cli.OnUsageErrorFunc {
	return func(_ *cli.Context, err error, _ bool) error {
		text := err.Error()
		for _, bad := range badFlags {
			text = bad.theirs.ReplaceAllString(text, bad.ours)
		}
		hint := "see: " + command + " --help"
		if text == "there is no flag --version" {
			hint = "run: sallyportd version"
		}
		return fail(exitUsage, hint, "%s", text)
	}
}

// exit is an error with a status and, perhaps, a hint.
type exit struct {
	code int
	err  error
	hint string
}

func (x *exit) Error() string { return x.err.Error() }
func (x *exit) Unwrap() error { return x.err }

func fail(code int, hint, format string, args ...any) error {
	return &exit{code, fmt.Errorf(format, args...), hint}
}

// withStatus is err with another status.
func withStatus(code int, err error) error {
	x := &exit{code: code, err: err}
	var was *exit
	if errors.As(err, &was) {
		x.hint = was.hint
	}
	return x
}

// build says which commit this program is, if the builder knew.
func build() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return runtime.Version()
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))] + " " + runtime.Version()
		}
	}
	return runtime.Version()
}

var configFlag = &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Value: "/etc/sallyport/sallyport.yaml", Usage: "read `FILE`"}
