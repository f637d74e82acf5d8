package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
)

func (c *command) ls() *cli.Command {
	return &cli.Command{
		Name: "ls", Usage: "list the targets that you may use",
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			return c.ask(func(api *client.API) error {
				targets, err := api.Targets(x.Context)
				if err != nil {
					return err
				}
				if c.json {
					return c.print(targets)
				}
				rows := [][]string{{"NAME", "VNET", "PROTOCOLS", "LABELS"}}
				for _, t := range targets {
					rows = append(rows, []string{t.Name, t.VNet, protocols(t.Protocols), labels(t.Labels)})
				}
				return c.table(rows...)
			})
		},
	}
}

// protocols reads like ssh:22,2222 rdp:3389.
func protocols(m map[string][]int) string {
	var words []string
	for _, p := range slices.Sorted(maps.Keys(m)) {
		var ports []string
		for _, port := range m[p] {
			ports = append(ports, strconv.Itoa(port))
		}
		words = append(words, p+":"+strings.Join(ports, ","))
	}
	return strings.Join(words, " ")
}

func labels(m map[string]string) string {
	var words []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		words = append(words, k+"="+m[k])
	}
	return strings.Join(words, ",")
}

// status is what the command and the appliance know of the sign-in.
type status struct {
	Appliance string        `json:"appliance"`
	Address   string        `json:"address"`
	Took      int64         `json:"connect_ms"`
	Tried     []string      `json:"tried,omitempty"`    // what did not lead there
	Agent     int           `json:"agent_pid,omitzero"` // of the agent that holds the session, if one does
	Me        api.Me        `json:"me"`
	Skew      int64         `json:"clock_skew_ms"` // the appliance's clock less this computer's
	Sessions  []api.Session `json:"sessions"`
}

func (c *command) status() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show who you are, how you get there, your sessions",
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			d, p, err := c.dial()
			if err != nil {
				return err
			}
			defer d.Close()
			path, err := d.Path(x.Context)
			if err != nil {
				return err
			}
			s := status{Appliance: p.Name, Address: p.Address, Took: path.Took.Milliseconds(), Tried: path.Tried, Agent: path.Agent}
			api := client.NewAPI(d)
			defer api.Close()
			if s.Me, err = api.Me(x.Context); err != nil {
				return err
			}
			s.Skew = time.Until(s.Me.Time).Milliseconds()
			if s.Sessions, err = api.Sessions(x.Context, false); err != nil {
				return err
			}
			if c.json {
				return c.print(s)
			}
			return c.printStatus(s)
		},
	}
}

func (c *command) printStatus(s status) error {
	user := s.Me.User
	if s.Me.Admin {
		user += " (administrator)"
	}
	rows := [][]string{
		{"appliance", fmt.Sprintf("%s at %s", s.Appliance, s.Address)},
		{"transport", fmt.Sprintf("%s, connected in %d ms", s.Me.Transport, s.Took)},
		{"user", user},
		{"device", s.Me.Device + " at " + s.Me.Source},
	}
	if !s.Me.SignedInUntil.IsZero() {
		factor := "without a second factor"
		if !s.Me.MFA.IsZero() {
			factor = "with a second factor at " + when(s.Me.MFA)
		}
		rows = append(rows, []string{"signed in", "until " + when(s.Me.SignedInUntil) + ", " + factor})
	}
	if len(s.Me.Groups) > 0 {
		rows = append(rows, []string{"groups", strings.Join(s.Me.Groups, ", ")})
	}
	if words := scope(s.Me.Scope); words != "" {
		rows = append(rows, []string{"scope", words})
	}
	if !s.Me.Scope.Expires.IsZero() {
		rows = append(rows, []string{"expires", when(s.Me.Scope.Expires)})
	}
	if s.Agent != 0 {
		rows = append(rows, []string{"agent", fmt.Sprintf("process %d holds the connection", s.Agent)})
	}
	for _, t := range s.Tried {
		rows = append(rows, []string{"tried", t})
	}
	if skew := time.Duration(s.Skew) * time.Millisecond; skew.Abs() > 30*time.Second {
		rows = append(rows, []string{"clock", fmt.Sprintf("the appliance's differs by %v", skew.Round(time.Second))})
	}
	if err := c.table(rows...); err != nil || len(s.Sessions) == 0 {
		return err
	}
	fmt.Fprintln(c.Stdout)
	return c.table(sessionRows(s.Sessions)...)
}

func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}
