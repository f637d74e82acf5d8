package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/client"
	"sallyport/frame"
)

func (c *command) bench() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "measure your way to the appliance, and to a target", ArgsUsage: "[TARGET[:PORT]]",
		Description: `Measures round trips and bytes to the appliance itself, over QUIC and over
HTTPS, and says what they are good for. With a target it also measures how
long a flow takes to open there, and until an SSH server says who it is. It
moves as much as the way carries: on a metered one, use a short --time.

  sallyport bench
  sallyport bench db-1
  sallyport bench desk-3 --protocol rdp --transport https --time 500ms`,
		Flags: []cli.Flag{
			protocolFlag(),
			&cli.DurationFlag{Name: "time", Value: 2 * time.Second, Usage: "measure each figure for `TIME`, 100ms to 10s"},
		},
		Action: func(x *cli.Context) error {
			b := client.Bench{Time: x.Duration("time")}
			switch {
			case x.NArg() > 1:
				return misused(x, "takes one target at most")
			case b.Time < client.MinBench || b.Time > client.MaxBench:
				return usage(fmt.Sprintf("--time must be %v to %v", client.MinBench, client.MaxBench), "leave it out for 2s")
			case x.NArg() == 1:
				req, err := request(x.Args().First(), x.String("protocol"))
				if err != nil {
					return err
				}
				b.Target = &req
			case x.IsSet("protocol"):
				return usage("--protocol is for a target", "name one, or leave it out")
			}
			var err error
			if b.Home, err = c.home(); err != nil {
				return err
			}
			if b.Profile, err = b.Home.Profile(c.appliance); err != nil {
				return err
			}
			b.Options = c.options()
			p := c.progress()
			b.Step = func(transport, what string) { p.show(transport + ": " + what) }
			report, err := b.Measure(x.Context)
			p.show("")
			switch {
			case err != nil:
				return err
			case c.json:
				return c.print(report)
			}
			return c.printBench(report)
		},
	}
}

// progress is a line of the terminal that says what goes on; where stderr is none, nothing.
type progress struct {
	w     io.Writer
	wrote int // columns
}

func (c *command) progress() *progress {
	if _, ok := terminal(c.Stderr); !ok {
		return &progress{w: io.Discard}
	}
	return &progress{w: c.Stderr}
}

// show puts text in the place of what stood there before.
func (p *progress) show(text string) {
	text = frame.Clip(text, 70)
	fmt.Fprintf(p.w, "\r%-*s\r%s", p.wrote, "", text)
	p.wrote = len(text)
}

// printBench prints a table with a column for each transport, what the figures do not say, and the verdict.
func (c *command) printBench(r *client.BenchReport) error {
	var ways []client.Way
	var bounded, notes []string
	for _, w := range r.Ways {
		if w.Failure != nil {
			notes = append(notes, w.Transport+" is not to be had: "+strings.Join(append([]string{w.Failure.Sentence}, w.Failure.Tried...), "; "))
			continue
		}
		ways = append(ways, w)
		if client.AtBound(max(w.Down, w.Up), r.Bound) {
			bounded = append(bounded, w.Transport)
		}
	}
	if len(bounded) > 0 {
		notes = append(notes, fmt.Sprintf("%s may carry more: the appliance lets nobody measure more than %s", strings.Join(bounded, " and "), client.Rate(r.Bound)))
	}
	var rows [][]string
	row := func(name string, figure func(client.Way) string) {
		cells := []string{name}
		for _, w := range ways {
			cells = append(cells, figure(w))
		}
		rows = append(rows, cells)
	}
	row("", func(w client.Way) string { return w.Transport })
	row("connected in", func(w client.Way) string { return rtt(w.Connect) })
	row("round trip", func(w client.Way) string { return rtt(w.RoundTrips.P50) })
	row("  99 of 100 within", func(w client.Way) string { return rtt(w.RoundTrips.P99) })
	row("  jitter", func(w client.Way) string { return rtt(w.RoundTrips.Jitter) })
	row("down", func(w client.Way) string { return client.Rate(w.Down) })
	row("up", func(w client.Way) string { return client.Rate(w.Up) })
	row("flow to the appliance", func(w client.Way) string { return rtt(w.Open) })
	if r.Target != "" {
		row("flow to "+r.Target, func(w client.Way) string { return rtt(w.Target) })
		row("  behind the appliance", func(w client.Way) string { return more(w.Target, w.Open) })
	}
	if ways[0].Banner > 0 {
		row("its SSH banner", func(w client.Way) string { return rtt(w.Banner) })
		row("  behind the appliance", func(w client.Way) string { return more(w.Banner, w.Open) })
	}
	if err := c.table(rows...); err != nil {
		return err
	}
	for _, note := range notes {
		fmt.Fprintln(c.Stdout, frame.Clip(note, 600))
	}
	_, err := fmt.Fprintln(c.Stdout, r.Verdict)
	return err
}

// more is by how much something took longer than what it is compared with.
func more(took, than time.Duration) string {
	return rtt(max(1, took-than)) // of nothing rtt says that it is not known
}
