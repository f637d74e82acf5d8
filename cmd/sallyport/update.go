package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/frame"
)

// maxUpdate is a little more than an update file can have, so that what is fetched has a bound. The appliance says exactly.
const maxUpdate = 65 << 20

// fetchPatience is how long a server may send nothing.
const fetchPatience = 30 * time.Second

func (c *command) update() *cli.Command {
	status := &cli.Command{Name: "status", Usage: "show the versions that the appliance has", Action: func(x *cli.Context) error {
		if err := none(x); err != nil {
			return err
		}
		return c.ask(func(to *client.API) error {
			s, err := to.UpdateStatus(x.Context)
			if err != nil {
				return err
			}
			return c.showUpdate(s)
		})
	}}
	yes := &cli.BoolFlag{Name: "yes", Usage: "do not ask"}
	rollback := &cli.Command{
		Name: "rollback", Usage: "go back to the version before, and restart",
		Description: "An update that waits for the next start is given up. Otherwise the version\nthat runs is, and the appliance restarts into the one before. A version that\nis good may have closed the way back: update status shows the floor.",
		Flags:       []cli.Flag{yes},
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			return c.ask(func(to *client.API) error {
				if err := c.sure(x, "go back to the version before? [y/N] "); err != nil {
					return err
				}
				next, err := to.RollbackUpdate(x.Context)
				if err != nil {
					return err
				}
				if next.Next == next.Version {
					return c.done(next, fmt.Sprintf("%s stays", frame.Clip(next.Version, 64)))
				}
				return c.restartInto(x.Context, to, next)
			})
		},
	}
	restart := &cli.Command{
		Name: "restart", Usage: "let sessions end, and restart the appliance",
		Flags: []cli.Flag{yes},
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			return c.ask(func(to *client.API) error {
				if err := c.sure(x, "restart the appliance? [y/N] "); err != nil {
					return err
				}
				s, err := to.UpdateStatus(x.Context)
				if err != nil {
					return err
				}
				return c.restartInto(x.Context, to, api.UpdateNext{Version: s.Version, Next: s.Next})
			})
		},
	}
	return &cli.Command{
		Name: "update", Usage: "update an appliance that runs from the image", ArgsUsage: "FILE|URL",
		Description: "  sallyport admin update sallyport-1.4.0.update\n  sallyport admin update https://releases.example/sallyport-1.4.0.update\n  sallyport admin update status\n\n" +
			"The appliance takes a file that is signed by a key it knows, and later than\nwhat runs. Sessions are told, and have its drain.grace to end. Then it\n" +
			"restarts. A version that does not pass its self-test makes way for the one\nbefore by itself. This command fetches a URL; the appliance does not.",
		Subcommands: []*cli.Command{status, rollback, restart},
		Flags:       []cli.Flag{yes, &cli.BoolFlag{Name: "no-restart", Usage: "install it for the next restart"}},
		Action: func(x *cli.Context) error {
			from, err := only(x, "file or URL")
			if err != nil {
				return err
			}
			return c.bringUpdate(x, from)
		},
	}
}

// bringUpdate brings an update, asks, has it installed, and restarts.
func (c *command) bringUpdate(x *cli.Context, from string) error {
	if err := c.canAsk(x); err != nil { // before anything is fetched or brought
		return err
	}
	f, shut, err := c.openUpdate(x.Context, from)
	if err != nil {
		return err
	}
	defer shut()
	sum := sha256.New()
	size, err := io.Copy(sum, io.LimitReader(f, maxUpdate))
	if err != nil {
		return usage(fmt.Sprintf("%s cannot be read: %v", from, err), "")
	}
	if size == 0 || size == maxUpdate {
		return usage(fmt.Sprintf("%s is no update: it has %s", from, mib(size)), "")
	}
	up := client.Upload{ID: hex.EncodeToString(sum.Sum(nil)), Size: size, File: f}
	return c.ask(func(to *client.API) error {
		now, err := to.UpdateStatus(x.Context)
		if err != nil {
			return err
		}
		show, end := c.meter("brought", size)
		up.Told = show
		got, err := to.Bring(x.Context, up)
		end()
		if err != nil {
			return err
		}
		question := fmt.Sprintf("install %s (%s) in place of %s? [y/N] ", frame.Clip(got.Version, 64), frame.Clip(got.Flavour, 16), frame.Clip(now.Version, 64))
		if err := c.sure(x, question); err != nil {
			return err
		}
		next, err := to.InstallUpdate(x.Context, up.ID)
		if err != nil {
			return err
		}
		if x.Bool("no-restart") {
			return c.done(next, fmt.Sprintf("%s is installed; sallyport admin update restart starts it", frame.Clip(next.Next, 64)))
		}
		return c.restartInto(x.Context, to, next)
	})
}

// restartInto restarts the appliance and says what it will be then.
func (c *command) restartInto(ctx context.Context, to *client.API, next api.UpdateNext) error {
	r, err := to.RestartAppliance(ctx)
	if err != nil {
		return err
	}
	return c.done(next, fmt.Sprintf("the appliance restarts into %s; %d open sessions have %v to end", frame.Clip(next.Next, 64), r.Sessions, r.Grace),
		"sallyport admin update status says when it is good")
}

// done says a result, or prints it.
func (c *command) done(v any, lines ...string) error {
	if c.json {
		return c.print(v)
	}
	for _, line := range lines {
		c.say(line)
	}
	return nil
}

// sure asks the person, unless --yes has answered.
func (c *command) sure(x *cli.Context, question string) error {
	if err := c.canAsk(x); err != nil || x.Bool("yes") {
		return err
	}
	tty, _ := terminal(c.Stdin)
	yes, err := c.confirm(x.Context, tty, question)
	if err == nil && !yes {
		c.say("nothing was changed")
		return exitStatus(1)
	}
	return err
}

// canAsk says that nobody could answer, where somebody must.
func (c *command) canAsk(x *cli.Context) error {
	if _, isTTY := terminal(c.Stdin); !isTTY && !x.Bool("yes") {
		return usage("there is no terminal to ask whether to do this", "use --yes")
	}
	return nil
}

func (c *command) showUpdate(s api.Update) error {
	if c.json {
		return c.print(s)
	}
	rows := [][]string{{"VERSION", "STATE", "SIZE", ""}}
	for _, slot := range s.Slots {
		var notes []string
		if slot.Version == s.Version {
			notes = append(notes, "runs")
		}
		if slot.Version == s.Next && s.Next != s.Version {
			notes = append(notes, "at the next start")
		}
		rows = append(rows, []string{slot.Version, slot.State, mib(slot.Bytes), strings.Join(notes, ", ")})
	}
	if err := c.table(rows...); err != nil {
		return err
	}
	if s.Trial {
		c.say("what runs has yet to pass its self-test")
	}
	return nil
}

func mib(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// meter shows on a terminal how much is done, and ends with a line of its own.
func (c *command) meter(what string, size int64) (show func(int64), end func()) {
	if _, ok := terminal(c.Stderr); !ok || c.json {
		return func(int64) {}, func() {}
	}
	shown := false
	show = func(n int64) {
		shown = true
		c.voice.Lock()
		defer c.voice.Unlock()
		if size > 0 {
			fmt.Fprintf(c.Stderr, "\rsallyport: %s %s of %s ", what, mib(n), mib(size))
		} else {
			fmt.Fprintf(c.Stderr, "\rsallyport: %s %s ", what, mib(n))
		}
	}
	return show, func() {
		if shown {
			fmt.Fprintln(c.Stderr)
		}
	}
}

// openUpdate opens a file, or fetches one into a temporary file that goes when it is shut.
func (c *command) openUpdate(ctx context.Context, from string) (f *os.File, shut func(), err error) {
	u, err := url.Parse(from)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		if f, err = os.Open(from); err != nil {
			return nil, nil, unreadable(err)
		}
		if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() { // it is read twice
			f.Close()
			return nil, nil, usage(from+" cannot be read: it is no file", "")
		}
		return f, func() { f.Close() }, nil
	}
	if f, err = os.CreateTemp("", "sallyport-*.update"); err != nil {
		return nil, nil, err
	}
	shut = func() {
		f.Close()
		os.Remove(f.Name())
	}
	if err = c.fetch(ctx, u, f); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		shut()
		return nil, nil, err
	}
	return f, shut, nil
}

// fetch fetches a URL. It need not be trusted: the appliance verifies who has signed what comes.
func (c *command) fetch(ctx context.Context, u *url.URL, to io.Writer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(fetchPatience, func() { cancel(fmt.Errorf("nothing has come for %v", fetchPatience)) })
	defer idle.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	failed := func(err error) error {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // without the URL, which may have a secret in it
		}
		return usage(fmt.Sprintf("%s cannot be fetched: %v", u.Redacted(), err), "fetch it otherwise, and name the file")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return failed(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return failed(fmt.Errorf("the server answers %s", frame.Clip(resp.Status, 80)))
	}
	show, end := c.meter("fetched", resp.ContentLength)
	defer end()
	n, b := int64(0), make([]byte, 256<<10)
	for {
		k, err := resp.Body.Read(b)
		idle.Reset(fetchPatience)
		if n += int64(k); n >= maxUpdate {
			return failed(errors.New("it is too long for an update"))
		}
		if _, err := to.Write(b[:k]); err != nil {
			return err
		}
		show(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return failed(err)
		}
	}
}
