// Command sallyport-image builds the appliance's image, and says what is in one.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// version is set by the linker.
var version = "0.1.0-dev"

// Exit statuses.
const (
	exitFailed = 1 // also: what was compared differs
	exitUsage  = 2
)

// env is what a run of the program sees of the world.
type env struct {
	args           []string
	stdout, stderr io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, env{os.Args, os.Stdout, os.Stderr}))
}

// run is the whole program; it returns the exit status.
func run(ctx context.Context, e env) int {
	app := &cli.App{
		Name:           "sallyport-image",
		Usage:          "builds the appliance's image, and says what is in one",
		UsageText:      "sallyport-image COMMAND …",
		Writer:         e.stdout,
		ErrWriter:      e.stderr,
		Version:        version,
		HideVersion:    true,
		ExitErrHandler: func(*cli.Context, error) {}, // run says it, once
		Flags:          []cli.Flag{cli.HelpFlag},
		Commands:       []*cli.Command{buildCommand(e), verifyCommand(e), inspectCommand(e), signCommand(e), updateKeyCommand(e), updateCommand(e)},
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return cli.ShowAppHelp(c)
			}
			return misused("there is no command %q; run: sallyport-image --help", c.Args().First())
		},
		OnUsageError: badUsage,
	}
	for _, command := range app.Commands {
		command.HideHelpCommand = true
		command.OnUsageError = badUsage
	}
	err := app.RunContext(ctx, e.args)
	var status *exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		if status.err != nil {
			e.say(status.err.Error(), status.hint)
		}
		return status.code
	case ctx.Err() != nil:
		e.say("interrupted", "")
	default:
		e.say(err.Error(), "")
	}
	return exitFailed
}

// say tells what went wrong, on one line, and what to do.
func (e env) say(what, hint string) {
	fmt.Fprintf(e.stderr, "sallyport-image: %s\n", strings.ReplaceAll(what, "\n", "; "))
	if hint != "" {
		fmt.Fprintf(e.stderr, "sallyport-image: hint: %s\n", hint)
	}
}

// exit is an error with a status and what to do about it; err is nil if all has been said.
type exit struct {
	code int
	err  error
	hint string
}

func (x *exit) Error() string { return fmt.Sprintf("exit status %d", x.code) }

func misused(format string, args ...any) error {
	return &exit{code: exitUsage, err: fmt.Errorf(format, args...)}
}

func badUsage(c *cli.Context, err error, _ bool) error {
	return misused("%v; see: sallyport-image %s --help", err, c.Command.Name)
}
