package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/client"
)

func (c *command) doctor() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "examine the way to an appliance and say what is wrong", ArgsUsage: "[URL|APPLIANCE]",
		Description: `Each part is tried by itself: name, proxy, UDP, TCP, TLS, sign-in, clock,
versions, agent, and which transport is remembered as the faster. The exit
status is that of the first fault.

  sallyport doctor
  sallyport doctor https://bastion.example     # before the first login`,
		Action: func(x *cli.Context) error {
			if x.NArg() > 1 {
				return misused(x, "takes one appliance")
			}
			home, err := c.home()
			if err != nil {
				return err
			}
			doctor := &client.Doctor{Home: home, Appliance: c.appliance, Options: c.options()}
			if x.NArg() == 1 {
				doctor.Appliance = x.Args().First()
			}
			if !c.json {
				doctor.Found = c.printFinding
			}
			findings, err := doctor.Examine(x.Context)
			if err != nil {
				return err
			}
			fault := client.FirstFault(findings)
			if c.json {
				if err := c.print(findings); err != nil {
					return err
				}
			}
			if fault != nil {
				return exitStatus(client.Explain(fault).Exit())
			}
			return nil
		},
	}
}

// printFinding prints one line: verdict, what was examined, how long that took, what came of it, what to do.
func (c *command) printFinding(f client.Finding) {
	verdict := fmt.Sprintf("%-5s", strings.ToUpper(string(f.Verdict)))
	if f.Verdict == client.Good {
		verdict = "ok   "
	}
	if _, ok := terminal(c.Stdout); ok && c.Getenv("NO_COLOR") == "" {
		colour := map[client.Verdict]string{client.Good: "32", client.Note: "33", client.Fault: "1;31"}[f.Verdict]
		verdict = "\x1b[" + colour + "m" + verdict + "\x1b[0m"
	}
	text := f.Text
	if f.Hint != "" {
		text += " → " + f.Hint
	}
	took := time.Duration(f.Took) * time.Millisecond
	fmt.Fprintf(c.Stdout, "%s  %-7s  %7s  %s\n", verdict, f.Check, took, text)
}
