package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/frame"
)

// watchEvery is how often --watch looks again.
const watchEvery = 2 * time.Second

func (c *command) sessions() *cli.Command {
	all := &cli.BoolFlag{Name: "all", Usage: "everybody's that you may see"}
	list := func(x *cli.Context) error {
		if x.Args().Present() {
			return unknownCommand(x.Command.Subcommands, "sallyport sessions", x.Args().First())
		}
		return c.ask(func(api *client.API) error {
			if x.Bool("watch") {
				return c.watchSessions(x, api)
			}
			sessions, err := api.Sessions(x.Context, x.Bool("all"))
			if err != nil {
				return err
			}
			return c.printSessions(sessions)
		})
	}
	return &cli.Command{
		Name: "sessions", Usage: "list your sessions, end some, or say a line to them",
		Description: "  sallyport sessions --all --watch\n  sallyport sessions kill 3f9a0c51d2e4\n  sallyport sessions kill --user ann --why 'the laptop is lost'\n  sallyport sessions message 3f9a0c51d2e4 'restart at noon, please save'",
		Flags:       []cli.Flag{all, &cli.BoolFlag{Name: "watch", Usage: "look again every two seconds, until Ctrl-C"}},
		Action:      list,
		Subcommands: []*cli.Command{{
			Name: "kill", Usage: "end sessions for good", ArgsUsage: "ID…",
			Description: "Whom they belong to is told, with the reason. Administrators may end\nanybody's, also all of a person, to a target, or by a rule; with several of\n" +
				"these flags those that fit all of them.",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "user", Usage: "all sessions of `USER`"},
				&cli.StringFlag{Name: "target", Usage: "all sessions to `TARGET`"},
				&cli.StringFlag{Name: "rule", Usage: "all sessions that `RULE` allowed"},
				&cli.StringFlag{Name: "why", Usage: "tell them `TEXT`"},
			},
			Action: func(x *cli.Context) error {
				which := api.EndSessions{Sessions: x.Args().Slice(), User: x.String("user"), Target: x.String("target"), Rule: x.String("rule"), Why: x.String("why")}
				if len(which.Sessions) == 0 && which.User == "" && which.Target == "" && which.Rule == "" {
					return usage("no session is named", "sallyport sessions lists them; or give --user, --target or --rule")
				}
				return c.ask(func(api *client.API) error {
					ended, err := api.EndSessions(x.Context, which)
					if err != nil {
						return err
					}
					if c.json {
						return c.print(ended)
					}
					for _, s := range ended {
						c.say(fmt.Sprintf("ended %s of %s to %s", shortID(s.ID), frame.Clip(whose(s), 160), frame.Clip(s.Target, 64)))
					}
					if len(ended) == 0 {
						c.say("no session fits")
					}
					return nil
				})
			},
		}, {
			Name: "message", Usage: "say a line to whom a session belongs", ArgsUsage: "ID TEXT",
			Description: "They read it where they work: in a browser on the session's page, else on\nthe command's stderr. Who may end a session may say something to it.",
			Action: func(x *cli.Context) error {
				if x.NArg() < 2 {
					return usage("a session and a line are needed", "such as: sallyport sessions message 3f9a0c51d2e4 'restart at noon'")
				}
				m := api.MessageSessions{Sessions: []string{x.Args().First()}, Text: strings.Join(x.Args().Tail(), " ")}
				return c.ask(func(api *client.API) error {
					told, err := api.MessageSessions(x.Context, m)
					if err != nil {
						return err
					}
					if c.json {
						return c.print(told)
					}
					for _, s := range told {
						c.say(fmt.Sprintf("told %s of %s to %s", shortID(s.ID), frame.Clip(whose(s), 160), frame.Clip(s.Target, 64)))
					}
					return nil
				})
			},
		}},
	}
}

func (c *command) printSessions(sessions []api.Session) error {
	switch {
	case c.json:
		return c.print(sessions)
	case len(sessions) == 0:
		c.say("no sessions")
		return nil
	}
	return c.table(sessionRows(sessions)...)
}

// watchSessions shows the sessions again and again: on a terminal in place, else one after the other, as JSON one list
// a line.
func (c *command) watchSessions(x *cli.Context, api *client.API) error {
	_, screen := terminal(c.Stdout)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		sessions, err := api.Sessions(x.Context, x.Bool("all"))
		switch {
		case x.Context.Err() != nil:
			return nil
		case err != nil:
			return err
		case c.json:
			err = writeJSON(c.Stdout, sessions, "")
		default:
			if screen {
				fmt.Fprint(c.Stdout, "\x1b[H\x1b[2J") // home, clear
			}
			fmt.Fprintf(c.Stdout, "%s  %d sessions\n", time.Now().Format(time.TimeOnly), len(sessions))
			err = c.table(sessionRows(sessions)...)
		}
		if err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-x.Context.Done():
			return nil
		}
	}
}

// shortID is enough of a session's id to name it.
func shortID(id string) string { return frame.Clip(id, 12) }

func sessionRows(sessions []api.Session) [][]string {
	rows := [][]string{{"SESSION", "USER", "TARGET", "PROTOCOL", "TRANSPORT", "FROM", "SINCE", "IDLE", "ENDS", "RTT", "UP", "DOWN", "STATE"}}
	for _, s := range sessions {
		rows = append(rows, []string{shortID(s.ID), whose(s), fmt.Sprintf("%s:%d", s.Target, s.Port), s.Protocol, s.Transport, s.Source, when(s.Since),
			idle(s), when(s.Ends), rtt(s.RTT), size(s.Up), size(s.Down), state(s)})
	}
	return rows
}

// idle is how long nothing has moved, and how long that may last.
func idle(s api.Session) string {
	text := s.Idle.Round(time.Second).String()
	if s.IdleLimit > 0 {
		text += " of " + s.IdleLimit.String()
	}
	return text
}

func rtt(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
}

// size is a number of bytes in the unit that a person would choose.
func size(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	value := float64(n)
	for len(units) > 1 && value >= 1024 {
		value, units = value/1024, units[1:]
	}
	if units[0] == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[0])
}

// state says whether a session has a connection, and what happened to the ones before.
func state(s api.Session) string {
	switch {
	case s.Detached > 0:
		return fmt.Sprintf("no connection for %v: %s", s.Detached.Round(time.Second), s.Lost)
	case s.Why == "bulk":
		return fmt.Sprintf("moved to %s %s ago for bulk, connection %d", s.Transport, time.Since(s.Resumed).Round(time.Second), s.Attached)
	case s.Why == "slower":
		return fmt.Sprintf("moved back to %s %s ago, bulk was slower over HTTPS, connection %d", s.Transport, time.Since(s.Resumed).Round(time.Second), s.Attached)
	case s.Attached > 1:
		return fmt.Sprintf("resumed %s ago after a gap of %v, connection %d", time.Since(s.Resumed).Round(time.Second), s.Gap.Round(time.Millisecond), s.Attached)
	}
	return "connected"
}
