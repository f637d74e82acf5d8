// Command sallyport-bench measures Sallyport beside what it replaces and beside other tunnels, on one machine.
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

	"sallyport/bench"
)

// version is set by the linker.
var version = "0.1.0-dev"

// Exit statuses.
const (
	exitFailed = 1 // a goal was not met, or a measurement failed
	exitUsage  = 2
)

// env is what a run of the program sees of the world.
type env struct {
	args           []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

func main() {
	// Also when the terminal or the reader of the output goes away, what is built must be removed.
	// A reader that has gone is an error of writing, after which everything is taken down. The signal also comes for each
	// socket whose peer has left.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	os.Exit(run(ctx, env{os.Args, os.Stdin, os.Stdout, os.Stderr}))
}

// run is the whole program; it returns the exit status.
func run(ctx context.Context, e env) int {
	app := &cli.App{
		Name:           "sallyport-bench",
		Usage:          "measures Sallyport beside what it replaces and beside other tunnels",
		UsageText:      "sallyport-bench COMMAND …",
		Writer:         e.stdout,
		ErrWriter:      e.stderr,
		HideVersion:    true,
		ExitErrHandler: func(*cli.Context, error) {}, // run says it, once
		Flags:          []cli.Flag{cli.HelpFlag},
		Commands:       append([]*cli.Command{labCommand(e), compareCommand(e), goalsCommand(e)}, hiddenCommands(e)...),
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return cli.ShowAppHelp(c)
			}
			return misused("there is no command %q; run: sallyport-bench --help", c.Args().First())
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
			fmt.Fprintf(e.stderr, "sallyport-bench: %s\n", oneLine(status.err))
		}
		return status.code
	case ctx.Err() != nil:
		fmt.Fprintln(e.stderr, "sallyport-bench: interrupted; what it had built is removed")
	default:
		fmt.Fprintf(e.stderr, "sallyport-bench: %s\n", oneLine(err))
	}
	return exitFailed
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// exit is an error with a status; err is nil if all has been said.
type exit struct {
	code int
	err  error
}

func (x *exit) Error() string { return fmt.Sprintf("exit status %d", x.code) }

func misused(format string, args ...any) error { return &exit{exitUsage, fmt.Errorf(format, args...)} }

func badUsage(c *cli.Context, err error, _ bool) error {
	return misused("%v; see: sallyport-bench %s --help", err, c.Command.Name)
}

func compareCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "compare", Usage: "show what changed between two reports", ArgsUsage: "OLD.json NEW.json",
		Description: "Prints each measure of each candidate that both have, and its ratio to direct\nif it has one. A change within the spread of the rounds is marked ~.",
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return misused("compare takes two reports that lab --json has written, not %d arguments", c.NArg())
			}
			var reports [2]*bench.Report
			for i := range reports {
				var err error
				if reports[i], err = bench.ReadReport(c.Args().Get(i)); err != nil {
					return misused("%w", err)
				}
			}
			return bench.Compare(e.stdout, reports[0], reports[1])
		},
	}
}

func goalsCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "goals", Usage: "print the goals that lab judges by, as a file to begin with",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "quick", Usage: "those of lab --quick", DisableDefaultText: true}},
		Action: func(c *cli.Context) error {
			_, err := io.WriteString(e.stdout, builtin(c.Bool("quick")))
			return err
		},
	}
}

func builtin(quick bool) string {
	if quick {
		return bench.QuickGoals
	}
	return bench.FullGoals
}
