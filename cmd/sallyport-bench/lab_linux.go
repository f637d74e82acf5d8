package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/bench"
	"sallyport/bench/lab"
)

func labCommand(e env) *cli.Command {
	self, _ := os.Executable()
	beside := filepath.Dir(self)
	return &cli.Command{
		Name: "lab", Usage: "measure all candidates between three network namespaces of this machine",
		UsageText: "sallyport-bench lab [options]",
		Description: `Builds client, gateway and target, runs what Sallyport replaces, other tunnels
and Sallyport itself, in rounds, and removes everything. Needs root and ip(8).
A program that is not installed is named as skipped.

  sallyport-bench lab --quick
  sallyport-bench lab --json today.json --html today.html
  sallyport-bench lab --only nginx-tls,sallyport-https-packet --only 'down-*'
  sallyport-bench lab --impaired 50ms/0%,50ms/1% --only 'sallyport-*','wan-*'

The table goes to stdout, its last line is the verdict. Exit status: 0 all goals
that were measured are met, 1 one is not or a measurement failed, 2 usage.`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "rounds", Value: 5, Usage: "measure everything `N` times"},
			&cli.BoolFlag{Name: "quick", Usage: "less than a minute, for a collapse and nothing finer; its own --rounds, --idle and --length", DisableDefaultText: true},
			&cli.StringSliceFlag{Name: "only", Usage: "candidates and measures whose names match `PATTERN`; direct always runs"},
			&cli.StringSliceFlag{Name: "links", Value: cli.NewStringSlice("packet"), Usage: "how Sallyport is attached: `LINK` of " + strings.Join(lab.Links, ", ")},
			&cli.StringSliceFlag{Name: "doors", Value: cli.NewStringSlice("kernel"), Usage: "how people come in where the link is packet: `DOOR` of " + strings.Join(lab.Doors, ", ")},
			&cli.IntSliceFlag{Name: "idle", Value: cli.NewIntSlice(1000), Usage: "measure the memory of `N` idle flows"},
			&cli.StringSliceFlag{Name: "impaired", Usage: "measure goodput by a `WAY` such as 50ms/1% (round trip/loss each way); all: nine of them"},
			&cli.StringFlag{Name: "peers", Usage: "measure the candidates in `FILE` too"},
			&cli.StringFlag{Name: "goals", Usage: "judge by `FILE`; default: sallyport-bench goals"},
			&cli.StringFlag{Name: "json", Usage: "write the report to `FILE`"},
			&cli.StringFlag{Name: "benchfmt", Usage: "write all samples to `FILE`, for benchstat"},
			&cli.StringFlag{Name: "html", Usage: "write a page with plots to `FILE`"},
			&cli.StringFlag{Name: "programs", Value: beside, DefaultText: "that of this program", Usage: "the `FOLDER` of sallyport and sallyportd"},
			&cli.StringFlag{Name: "chaoslink", Value: filepath.Join(beside, "chaoslink"), DefaultText: "chaoslink beside this program", Usage: "the `PROGRAM` that impairs ways"},
			&cli.DurationFlag{Name: "length", Value: time.Second, Usage: "count the bytes of bulk flows for so `LONG`"},
		},
		Action: func(c *cli.Context) error { return runLab(c, e) },
	}
}

func runLab(c *cli.Context, e env) error {
	if c.Args().Present() {
		return misused("lab takes no argument %q; put flags before arguments", c.Args().First())
	}
	o := lab.Options{
		Programs: c.String("programs"), Version: "sallyport-bench " + version, Rounds: c.Int("rounds"), Links: c.StringSlice("links"), Doors: c.StringSlice("doors"),
		Only: c.StringSlice("only"), PeersFile: c.String("peers"), Idle: c.IntSlice("idle"), Chaoslink: c.String("chaoslink"), Length: c.Duration("length"),
		Log: func(format string, args ...any) { fmt.Fprintf(e.stderr, format+"\n", args...) },
	}
	if o.Rounds < 1 || slices.Min(append(o.Idle, 1)) < 1 {
		return misused("--rounds and --idle are at least 1")
	}
	if o.Length < 0 || o.Length > time.Minute {
		return misused("--length is at most a minute")
	}
	var err error
	if o.Impaired, err = paths(c.StringSlice("impaired")); err != nil {
		return misused("%w", err)
	}
	if len(o.Impaired) > 0 {
		if _, err := os.Stat(o.Chaoslink); err != nil {
			return misused("--impaired needs chaoslink: run make build, or name it with --chaoslink: %w", err)
		}
	}
	text := builtin(c.Bool("quick"))
	if file := c.String("goals"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return misused("%w", err)
		}
		text = string(b)
	}
	goals, err := bench.ParseGoals([]byte(text))
	if err != nil {
		return misused("goals: %w", err)
	}
	if c.Bool("quick") {
		o = o.Quick()
	}
	files, err := openForms(c)
	if err != nil {
		return misused("%w", err)
	}
	defer files.close()
	report, err := lab.Run(c.Context, o)
	if wrong := (lab.UsageError{}); errors.As(err, &wrong) {
		return misused("%w", wrong)
	}
	if err != nil && report != nil {
		return errors.Join(report.Table(e.stdout), files.write(report), err)
	}
	if err != nil {
		return err
	}
	j := goals.Judge(report)
	report.Judgement = &j
	return errors.Join(report.Table(e.stdout), files.write(report), verdict(e, report))
}

func paths(words []string) ([]lab.Path, error) {
	if slices.Equal(words, []string{"all"}) {
		return lab.Matrix(), nil
	}
	var all []lab.Path
	for _, w := range words {
		p, err := lab.ParsePath(w)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// forms are the files that the report is written to.
type forms map[string]*os.File

// openForms makes the files that are wanted before anything is measured, which takes long.
func openForms(c *cli.Context) (forms, error) {
	all := forms{}
	for _, form := range []string{"json", "benchfmt", "html"} {
		if path := c.String(form); path != "" {
			f, err := os.Create(path)
			if err != nil {
				all.close()
				return nil, err
			}
			all[form] = f
		}
	}
	return all, nil
}

func (all forms) write(report *bench.Report) error {
	var errs []error
	for form, write := range map[string]func(io.Writer) error{"json": report.Write, "benchfmt": report.Benchfmt, "html": report.HTML} {
		if f := all[form]; f != nil {
			errs = append(errs, write(f), f.Close())
		}
	}
	return errors.Join(errs...)
}

// close closes what was not written.
func (all forms) close() {
	for _, f := range all {
		f.Close()
	}
}

// verdict prints the goals and, last, whether they are met.
func verdict(e env, report *bench.Report) error {
	if err := report.Judgement.Print(e.stdout); err != nil {
		return err
	}
	if !report.Judgement.Passed {
		return &exit{code: exitFailed}
	}
	return nil
}

// hiddenCommands are what lab starts in its namespaces.
func hiddenCommands(e env) []*cli.Command {
	return []*cli.Command{
		{Name: "generate", Hidden: true, Usage: "is started by lab", Action: func(c *cli.Context) error { return lab.Generate(c.Context, e.stdin, e.stdout) }},
		{Name: "target", Hidden: true, Usage: "is started by lab", Action: func(c *cli.Context) error { return lab.Target(c.Context) }},
		{
			Name: "wireguard", Hidden: true, Usage: "is started by lab",
			Flags: []cli.Flag{&cli.StringFlag{Name: "name"}, &cli.StringFlag{Name: "settings"}, &cli.StringFlag{Name: "addresses"}},
			Action: func(c *cli.Context) error {
				var texts [2]string
				for i, flag := range []string{"settings", "addresses"} {
					b, err := os.ReadFile(c.String(flag))
					if err != nil {
						return err
					}
					texts[i] = string(b)
				}
				return lab.WireGuard(c.Context, c.String("name"), texts[0], texts[1], e.stdout)
			},
		},
	}
}
