package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"
)

func caKeyCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "ca-key", Usage: "print the keys by which targets trust SSH certificates",
		Description: "For the file that TrustedUserCAKeys of a target's sshd_config names.",
		Flags:       []cli.Flag{configFlag},
		Action: func(c *cli.Context) error {
			a, err := askForCA(c, http.MethodGet, nil)
			if err != nil {
				return err
			}
			return printLines(e.stdout, a)
		},
	}
}

func caRotateCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "ca-rotate", Usage: "make the next key for SSH certificates",
		Description: "It signs after the overlap; until then give targets all lines that this and\nca-key print. The key before retires after another overlap.",
		Flags: []cli.Flag{configFlag,
			&cli.DurationFlag{Name: "overlap", Value: 7 * 24 * time.Hour, Usage: "sign with it after `TIME`"}},
		Action: func(c *cli.Context) error {
			a, err := askForCA(c, http.MethodPost, url.Values{"overlap": {c.Duration("overlap").String()}})
			if err != nil {
				return err
			}
			fmt.Fprintf(e.stderr, "sallyportd: the first of these keys signs from %s on\n", a.Signs.Format(time.RFC3339))
			return printLines(e.stdout, a)
		},
	}
}

// printLines prints keys for root, who will paste them: the socket's folder is the worker's.
func printLines(w io.Writer, a caAnswer) error {
	for _, line := range a.Lines {
		key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil || len(options)+len(rest) > 0 {
			return fail(1, "", "the daemon's answer makes no sense")
		}
		if _, err := fmt.Fprintf(w, "%s", ssh.MarshalAuthorizedKey(key)); err != nil {
			return err
		}
	}
	return nil
}

func askForCA(c *cli.Context, method string, q url.Values) (a caAnswer, err error) {
	if err := none(c); err != nil {
		return a, err
	}
	_, cfg, err := load(c)
	if err != nil {
		return a, err
	}
	err = askDaemon(c.Context, cfg, method, "ca?"+q.Encode(), nil, &a)
	return a, err
}
