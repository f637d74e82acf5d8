package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"sallyport/client"
	"sallyport/frame"
)

func (c *command) login() *cli.Command {
	return &cli.Command{
		Name: "login", Usage: "sign in to an appliance on this device", ArgsUsage: "URL",
		Description: `You sign in in a browser, of this computer or any other: the page that opens
shows which device asks, and you confirm that it is yours. Where nobody signs
in, or for a robot, an administrator gives you an enrolment code. It is asked
for, or read from a file: it is never an argument, which others on this
computer could see.

The device key is kept in this computer's keychain if that is unlocked and
answers within three seconds, or else in a file that only you can read.
--key-store keychain waits for you to unlock it, and uses no file.

  sallyport login https://bastion.example
  sallyport login bastion.example:8443 --fingerprint 3f9a… --name laptop
  pass bastion | sallyport login https://bastion.example --code-file -`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "user", Usage: "`NAME` of the person whom the code is for"},
			&cli.StringFlag{Name: "name", Usage: "what to call this device; default: the computer's `NAME`"},
			&cli.StringFlag{Name: "code-file", Usage: "read an enrolment code from `FILE`; - is stdin"},
			&cli.BoolFlag{Name: "no-browser", Usage: "open no browser, only show the address"},
			&cli.StringFlag{Name: "key-store", Usage: "keep the device key in `STORE`: keychain, file or auto"},
			&cli.StringFlag{Name: "ca", Usage: "trust the certificates in `FILE` (PEM)"},
			&cli.StringFlag{Name: "fingerprint", Usage: "trust the certificate whose key has this `SHA-256`"},
		},
		Action: func(x *cli.Context) error {
			url, err := only(x, "URL")
			if err != nil {
				return err
			}
			if _, err := client.ParseAppliance(url); err != nil {
				return err
			}
			home, err := c.home()
			if err != nil {
				return err
			}
			o := client.LoginOptions{
				URL: url, User: x.String("user"), Device: x.String("name"), Profile: c.appliance,
				KeyStore: cmp.Or(x.String("key-store"), client.KeyAuto), CAFile: x.String("ca"), Fingerprint: x.String("fingerprint"), Options: c.options(),
				Browse: func(url, code string) { c.browse(x.Context, url, code, !x.Bool("no-browser")) },
			}
			var p *client.Profile
			if !x.IsSet("code-file") {
				p, err = client.Login(x.Context, home, o)
			}
			if x.IsSet("code-file") || errors.Is(err, client.ErrNoSignIn) {
				if o.Code, err = c.code(x.Context, x.String("code-file"), "enrolment code", "an administrator"); err == nil {
					p, err = client.Login(x.Context, home, o)
				}
			}
			if err != nil {
				return err
			}
			if c.json {
				return c.print(map[string]string{"appliance": p.Name, "address": p.Address, "user": p.User, "device": p.Device,
					"key_store": cmp.Or(p.KeyStore, client.KeyFile)})
			}
			c.say(fmt.Sprintf("signed in to %s as %s; this device is %s", p.Name, frame.Clip(p.User, 200), frame.Clip(p.Device, 64)))
			return nil
		},
	}
}

// browse shows the person where to sign in, and opens the page there if a browser is at hand.
func (c *command) browse(ctx context.Context, url, code string, open bool) {
	if c.json {
		c.print(map[string]string{"stage": "browser", "url": url, "code": code})
		return
	}
	c.say("sign in at " + url)
	c.say("and confirm the device with the code " + code)
	if open && openBrowser(ctx, url) {
		c.say("your browser opens; waiting for you to confirm")
		return
	}
	c.say("open it in a browser of any computer; waiting for you to confirm")
}

// openBrowser opens a page in the person's browser, where there is a desktop.
func openBrowser(ctx context.Context, url string) bool {
	var name string
	var args []string
	switch {
	case os.Getenv("SSH_CONNECTION") != "":
		return false
	case runtime.GOOS == "darwin":
		name = "open"
	case runtime.GOOS == "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler"}
	case os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "":
		return false
	default:
		name = "xdg-open"
	}
	cmd := exec.CommandContext(ctx, name, append(args, url)...)
	if cmd.Start() != nil {
		return false
	}
	go cmd.Wait() // it may stay for as long as the browser does
	return true
}

// code gets a code, such as an enrolment code of an administrator's, from a file, stdin or the person.
func (c *command) code(ctx context.Context, file, what, giver string) (string, error) {
	var b []byte
	var err error
	tty, isTTY := terminal(c.Stdin)
	switch {
	case file == "" && isTTY:
		b, err = c.secret(ctx, tty, what+": ")
	case file == "":
		return "", usage("there is no terminal to ask for the "+what, "use --code-file FILE, or --code-file - for stdin")
	case file == "-":
		b, err = io.ReadAll(io.LimitReader(c.Stdin, maxCode))
	default:
		var f *os.File
		if f, err = os.Open(file); err == nil {
			b, err = io.ReadAll(io.LimitReader(f, maxCode))
			f.Close()
		}
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", usage("the "+what+" cannot be read: "+err.Error(), "")
	}
	if b = bytes.TrimSpace(b); len(b) == 0 || len(b) > 255 {
		return "", usage("that is no "+what, giver+" gives you one; it works once and for ten minutes")
	}
	return string(b), nil
}

// maxCode bounds what is read in search of a code.
const maxCode = 4 << 10

// secret asks on the terminal, without echo. The end of ctx leaves the terminal as it was.
func (c *command) secret(ctx context.Context, tty *os.File, prompt string) ([]byte, error) {
	fd := int(tty.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	fmt.Fprint(c.Stderr, prompt)
	defer fmt.Fprintln(c.Stderr)
	type line struct {
		b   []byte
		err error
	}
	typed := make(chan line, 1)
	go func() { // a read from a terminal ends only with a line; after an interrupt the process does
		b, err := term.ReadPassword(fd)
		typed <- line{b, err}
	}()
	select {
	case l := <-typed:
		return l.b, l.err
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), term.Restore(fd, state))
	}
}

func (c *command) logout() *cli.Command {
	return &cli.Command{
		Name: "logout", Usage: "give this device's sign-in up, here and at the appliance",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "local", Usage: "only here, without telling the appliance"},
			&cli.BoolFlag{Name: "everywhere", Usage: "all of your devices and guest links, not only this device"},
		},
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			home, err := c.home()
			if err != nil {
				return err
			}
			p, err := home.Profile(c.appliance)
			if err != nil {
				return err
			}
			if x.Bool("local") && x.Bool("everywhere") {
				return usage("--local and --everywhere exclude each other", "")
			}
			if !x.Bool("local") {
				c.appliance = p.Name
				err := c.ask(func(api *client.API) error { return api.Logout(x.Context, x.Bool("everywhere")) })
				switch r, _ := frame.ReasonOf(err); {
				case err == nil, r.Code == "E_DEVICE_REVOKED", r.Code == "E_DEVICE_EXPIRED", r.Code == "E_DEVICE_UNKNOWN", r.Code == "E_SIGNED_OUT":
				default:
					if !c.json {
						c.say("still signed in; sallyport logout --local forgets that without telling the appliance")
					}
					return err
				}
			}
			if err := home.Forget(p.Name); err != nil {
				return err
			}
			c.say("signed out of " + p.Name)
			return nil
		},
	}
}
