package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/client"
	"sallyport/frame"
)

// followEvery is how often --follow asks for what is new.
const followEvery = time.Second

func (c *command) audit() *cli.Command {
	return &cli.Command{
		Name: "audit", Usage: "show what happened on the appliance",
		Description: "For administrators.\n\n  sallyport audit --since 2h --user ann\n  sallyport audit --event flow.end --json\n  sallyport audit --code E_DENIED\n  sallyport audit --follow\n\n" +
			"sallyport audit verify FOLDER checks a copy of the log, offline.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "since", Usage: "from `TIME` on: 2h (ago), 2026-11-23T10:00"},
			&cli.StringFlag{Name: "until", Usage: "before `TIME`"},
			&cli.StringFlag{Name: "user", Usage: "of `USER`"},
			&cli.StringFlag{Name: "target", Usage: "about `TARGET`"},
			&cli.StringFlag{Name: "event", Usage: "of this `KIND`, such as flow.end, or flow for all of those"},
			&cli.StringFlag{Name: "session", Usage: "of the session `ID`"},
			&cli.StringFlag{Name: "code", Usage: "with this `CODE`, such as E_DENIED, or how it begins"},
			&cli.BoolFlag{Name: "follow", Usage: "go on with what happens, until Ctrl-C"},
		},
		Action: func(x *cli.Context) error {
			if x.Args().Present() {
				return unknownCommand(x.Command.Subcommands, "sallyport audit", x.Args().First())
			}
			q := client.AuditQuery{User: x.String("user"), Target: x.String("target"), Event: x.String("event"), Session: x.String("session"), Code: x.String("code")}
			var err error
			if q.Since, err = moment(x.String("since"), time.Now()); err != nil {
				return err
			}
			if q.Until, err = moment(x.String("until"), time.Now()); err != nil {
				return err
			}
			return c.ask(func(api *client.API) error { return c.showAudit(x, api, q) })
		},
		Subcommands: []*cli.Command{c.auditVerify(), c.auditKey()},
	}
}

// moment reads a time, or how long ago it was; the zero time for "".
func moment(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(s); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	for _, form := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(form, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usage(fmt.Sprintf("%q is no time", s), "such as 2h, 2026-11-23 or 2026-11-23T10:00")
}

// showAudit prints the pages that there are, and with --follow those that come.
func (c *command) showAudit(x *cli.Context, api *client.API, q client.AuditQuery) error {
	for {
		page, err := api.Audit(x.Context, q)
		if x.Context.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, line := range page.Events {
			if err := c.printEvent(line); err != nil {
				return err
			}
		}
		q.After = page.Next
		switch {
		case page.More:
			continue
		case !x.Bool("follow"):
			return nil
		}
		select {
		case <-time.After(followEvery):
		case <-x.Context.Done():
			return nil
		}
	}
}

// printEvent prints a line of the log: as it is, or what a person wants to know of it.
func (c *command) printEvent(line json.RawMessage) error {
	if c.json {
		return writeJSON(c.Stdout, line, "")
	}
	var e struct {
		Time                                                                                     time.Time
		Event, User, Device, Source, Transport, Target, Protocol, Code, Why, By, Object, Address string
		Policies                                                                                 []string
		Port                                                                                     int
		Up, Down                                                                                 uint64
		Took                                                                                     int64 `json:"duration_ms"`
	}
	if err := json.NewDecoder(bytes.NewReader(line)).Decode(&e); err != nil {
		return fmt.Errorf("the appliance's audit log: %w", err)
	}
	words := []string{e.Time.Local().Format("2006-01-02 15:04:05"), e.Event}
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if e.User != "" {
		add("%s", e.User)
	}
	if e.By != "" && e.By != e.User {
		add("by %s", e.By)
	}
	if e.Target != "" {
		if e.Port > 0 {
			e.Target += fmt.Sprintf(":%d", e.Port)
		}
		add("→ %s (%s)", e.Target, e.Protocol)
	}
	if e.Object != "" {
		add("%s", e.Object)
	}
	if e.Source != "" {
		add("from %s", e.Source)
	}
	if len(e.Policies) > 0 {
		add("by rule %q", strings.Join(e.Policies, ", "))
	}
	if e.Event == "flow.end" {
		add("up %s, down %s, %v", size(e.Up), size(e.Down), (time.Duration(e.Took) * time.Millisecond).Round(time.Second))
	}
	if e.Code != "" {
		add("%s", e.Code)
	}
	if e.Why != "" {
		add("%s", e.Why)
	}
	_, err := fmt.Fprintln(c.Stdout, frame.Clip(strings.Join(words, "  "), 2000))
	return err
}
