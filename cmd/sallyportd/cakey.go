package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/crypto/ssh"

	"sallyport/appliance/config"
	"sallyport/frame"
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
	err = askDaemon(c.Context, cfg, method, "ca?"+q.Encode(), &a)
	return a, err
}

// askDaemon asks the daemon on its control socket.
func askDaemon(ctx context.Context, cfg *config.Config, method, path string, answer any) error {
	socket := filepath.Join(cfg.State, controlSocket)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, method, "http://daemon/"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(request)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fail(1, "run it as root or as the daemon's user", "the daemon's socket %s is not for you", socket)
	case err != nil:
		return fail(1, "start it with sallyportd serve, with the same configuration", "the daemon was not reached at %s", socket)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return fail(1, "", "%s", frame.Clip(string(text), 600))
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(answer); err != nil {
		return fail(1, "", "the daemon's answer on %s makes no sense", socket)
	}
	return nil
}
