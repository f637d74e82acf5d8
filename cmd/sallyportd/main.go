// Command sallyportd is the appliance daemon.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/config"
	"sallyport/host"
)

// version is set by the linker.
var version = "0.1.0-dev"

func software() string {
	return "sallyportd " + version + " " + runtime.GOOS + "/" + runtime.GOARCH
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, env{os.Args, os.Stdin, os.Stdout, os.Stderr}))
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
		Usage:     "the appliance: brings people to the SSH and RDP of a private network",
		Writer:    e.stdout,
		ErrWriter: e.stderr,
		Version:   version,
		ExitErrHandler: func(*cli.Context, error) {
			// run says it, once
		},
		HideVersion: true,
		Commands: []*cli.Command{
			serveCommand(e),
			workerCommand(e),
			checkCommand(e),
			demoCommand(e),
			enrolCodeCommand(e),
			releaseCommand(e),
			{
				Name: "version", Usage: "print the version",
				Action: func(c *cli.Context) error {
					fmt.Fprintln(e.stdout, software(), build())
					return nil
				},
			},
		},
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return cli.ShowAppHelp(c)
			}
			return fail(exitUsage, "sallyportd --help lists them", "there is no command %q", c.Args().First())
		},
		OnUsageError: badUsage("sallyportd"),
	}
	for _, command := range app.Commands {
		command.HideHelpCommand = true
		command.OnUsageError = badUsage("sallyportd " + command.Name)
	}
	err := app.RunContext(ctx, e.args)
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
	fmt.Fprintf(e.stderr, "sallyportd: %v\n", err)
	if status != nil && status.hint != "" {
		fmt.Fprintf(e.stderr, "sallyportd: hint: %s\n", status.hint)
	}
	return code
}

// badUsage says what is wrong with a command's words, in one line.
func badUsage(command string) cli.OnUsageErrorFunc {
	return func(_ *cli.Context, err error, _ bool) error {
		return fail(exitUsage, "see "+command+" --help", "%w", err)
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

var configFlag = &cli.StringFlag{Name: "config", Aliases: []string{"c"}, Value: "/etc/sallyport/sallyport.yaml", Usage: "read the configuration from `FILE`"}
