package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"unicode"

	"golang.org/x/term"

	"sallyport/client"
	"sallyport/frame"
	"sallyport/transport"
)

// Env is all that a command knows of its surroundings.
type Env struct {
	Args           []string // without the program's name
	Self           string   // the program's path, for commands that others are to run
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
}

// A command is one run of the program: its surroundings and what the flags for all commands say.
type command struct {
	Env
	json      bool
	appliance string
	mode      transport.Mode
	noAgent   bool

	keepTransport bool // of flows that move much

	voice sync.Mutex
}

// say tells the person a line.
func (c *command) say(text string) {
	c.voice.Lock()
	defer c.voice.Unlock()
	fmt.Fprintf(c.Stderr, "sallyport: %s\n", text)
}

// fail tells the person why there is no result, and returns the exit status.
func (c *command) fail(err error) int {
	f := client.Explain(err)
	if f.Code == client.Interrupted { // who did that knows
		return f.Exit()
	}
	if c.json {
		c.voice.Lock()
		defer c.voice.Unlock()
		writeJSON(c.Stderr, f, "")
		return f.Exit()
	}
	for _, line := range f.Lines() {
		c.say(line)
	}
	return f.Exit()
}

// print writes a result as JSON.
func (c *command) print(v any) error {
	return writeJSON(c.Stdout, v, "  ")
}

// writeJSON writes a value and the end of a line. Strings of others keep what they say, but what might move a terminal's
// cursor, or turn round what it shows, is written as \u and its number.
func writeJSON(w io.Writer, v any, indent string) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return err
	}
	var text strings.Builder
	for _, r := range b.String() {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			fmt.Fprintf(&text, `\u%04x`, r)
		} else {
			text.WriteRune(r)
		}
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// table writes rows in columns. What comes from others is made harmless to a terminal.
func (c *command) table(rows ...[]string) error {
	w := tabwriter.NewWriter(c.Stdout, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i := range row {
			row[i] = frame.Clip(row[i], 200)
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	return w.Flush()
}

// terminal returns the terminal that v is, if it is one.
func terminal(v any) (*os.File, bool) {
	f, ok := v.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

func (c *command) home() (client.Home, error) { return client.OpenHome(c.Getenv("SALLYPORT_HOME")) }

func (c *command) options() client.Options {
	return client.Options{Transport: c.mode, Software: "sallyport " + versionText(), Notice: c.say,
		KeepTransport: c.keepTransport || c.wants("SALLYPORT_KEEP_TRANSPORT")}
}

// wants says whether a variable that is a switch is on.
func (c *command) wants(name string) bool {
	v := c.Getenv(name)
	return v != "" && v != "0"
}

// dial returns the way to the appliance that the flags name; the caller closes it.
func (c *command) dial() (client.Dialer, *client.Profile, error) {
	home, profile, err := c.profile()
	if err != nil {
		return nil, nil, err
	}
	if c.withoutAgent() {
		d, err := client.NewDirect(home, profile, c.options())
		return d, profile, err
	}
	return client.NewShared(home, profile, c.options(), client.AgentOptions{
		Version: agentVersion(),
		Start:   func() (<-chan struct{}, error) { return c.startAgent(home) },
	}), profile, nil
}

// dialAlone is dial for a command that lives long and carries many flows: it is its own agent, for whatever went through
// another process would be copied twice more.
func (c *command) dialAlone() (client.Dialer, error) {
	home, profile, err := c.profile()
	if err != nil {
		return nil, err
	}
	o := c.options()
	o.Spares = client.Spares
	return client.NewDirect(home, profile, o)
}

func (c *command) profile() (home client.Home, p *client.Profile, err error) {
	if home, err = c.home(); err == nil {
		p, err = home.Profile(c.appliance)
	}
	return home, p, err
}

// ask runs a question to the appliance itself.
func (c *command) ask(question func(*client.API) error) error {
	d, _, err := c.dial()
	if err != nil {
		return err
	}
	defer d.Close()
	api := client.NewAPI(d)
	defer api.Close()
	return question(api)
}

func usage(sentence, hint string) error { return frame.Refuse("E_USAGE", sentence, hint) }
