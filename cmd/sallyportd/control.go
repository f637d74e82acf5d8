package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/appliance"
	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/appliance/config"
	"sallyport/frame"
)

// controlSocket is where the daemon hears its own commands, in the state folder, for root and its own user only.
const controlSocket = "control.sock"

// listenControl opens the control socket.
func (d *daemon) listenControl() (net.Listener, error) {
	path := filepath.Join(d.supply.State(), controlSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// serveControl answers on the control socket until ctx ends.
func (d *daemon) serveControl(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /enrol-code", func(w http.ResponseWriter, r *http.Request) {
		var ask api.AskCode
		if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&ask); err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		code, err := d.gateway.MakeCode(appliance.NewCode{AskCode: ask, By: audit.Event{By: "root"}})
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		json.NewEncoder(w).Encode(enrolAnswer{Code: code.Code, Fingerprint: d.fingerprint(),
			Listen: where(d.cfg), Pinned: d.cfg.TLS.SelfSigned})
	})
	mux.HandleFunc("POST /first-code", d.controlFirstCode)
	mux.HandleFunc("POST /accounts", d.controlAccounts)
	mux.HandleFunc("POST /unlock", d.controlUnlock)
	mux.HandleFunc("POST /access", d.controlApply)
	mux.HandleFunc("GET /ca", d.serveCA)
	mux.HandleFunc("POST /ca", d.serveCA)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

// A refusal is why the daemon does not do what it was asked for, and what to do.
type refusal struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}

// refuse answers a command that is not done.
func refuse(w http.ResponseWriter, status int, err error) {
	r := refusal{Error: err.Error()}
	var known *auth.Error
	if errors.As(err, &known) {
		r.Hint = known.Hint
	} else if reason, ok := frame.ReasonOf(err); ok {
		r = refusal{reason.Sentence, reason.Hint}
	}
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(r)
}

// A firstQuestion asks for a code for a person, if no device is enrolled.
type firstQuestion struct {
	User string `json:"user"`
}

// A firstAnswer is without a code where a device is enrolled.
type firstAnswer struct{ enrolAnswer }

// controlFirstCode makes a code while no device is enrolled.
func (d *daemon) controlFirstCode(w http.ResponseWriter, r *http.Request) {
	var ask firstQuestion
	if err := json.NewDecoder(io.LimitReader(r.Body, 4<<10)).Decode(&ask); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	var answer firstAnswer
	if len(d.registry.List()) == 0 {
		code, err := d.gateway.MakeCode(appliance.NewCode{AskCode: api.AskCode{User: ask.User}, By: audit.Event{By: "root"}})
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		answer.enrolAnswer = enrolAnswer{Code: code.Code, Fingerprint: d.fingerprint(), Listen: where(d.cfg), Pinned: d.cfg.TLS.SelfSigned}
	}
	json.NewEncoder(w).Encode(answer)
}

type enrolAnswer struct {
	Code        string `json:"code"`
	Fingerprint string `json:"fingerprint"`
	Listen      string `json:"listen"`
	Pinned      bool   `json:"pinned"` // no authority vouches for the certificate: clients need the fingerprint
}

func enrolCodeCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "enrol-code", Usage: "make a one-time code that enrols a person's device",
		Description: "Prints the line that the person runs and, on a line of its own, the code that\nit asks for. " +
			"The code is good once, and for ten minutes unless you say\nless. With --target, --protocol or --expires the device may do less than its\nperson, as robots should, and never administers.",
		Flags: []cli.Flag{
			configFlag,
			&cli.StringFlag{Name: "user", Usage: "the device will act for `NAME`; must be given"},
			&cli.DurationFlag{Name: "valid", Value: appliance.CodeLife, Usage: "let the code be good for `TIME`"},
			&cli.GenericFlag{Name: "target", Value: new(several), Usage: "let the device reach `NAME` only; repeatable"},
			&cli.GenericFlag{Name: "protocol", Value: new(several), Usage: "by `NAME` only; repeatable"},
			&cli.DurationFlag{Name: "expires", Usage: "refuse the device after `TIME`", DefaultText: "never"},
			&cli.StringFlag{Name: "url", Usage: "tell the person to log in at `URL`"},
			&cli.BoolFlag{Name: "json", Usage: "print JSON"},
		},
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			if c.String("user") == "" {
				return misused(c, "needs --user NAME")
			}
			var bad *auth.Error
			if errors.As(auth.CheckUser(c.String("user")), &bad) {
				return fail(exitUsage, bad.Hint, "%w", bad)
			}
			if valid := c.Duration("valid"); valid <= 0 || valid > appliance.CodeLife {
				return fail(exitUsage, "leave --valid out for ten minutes", "a code is good for ten minutes at most, and not for %v", valid)
			}
			if c.IsSet("expires") && c.Duration("expires") <= 0 {
				return fail(exitUsage, "such as --expires 720h", "a device must expire in a time to come, and not in %v", c.Duration("expires"))
			}
			_, cfg, err := load(c)
			if err != nil {
				return err
			}
			answer, err := askForCode(c.Context, cfg, api.AskCode{User: c.String("user"), Valid: c.Duration("valid"), Targets: *c.Generic("target").(*several),
				Protocols: *c.Generic("protocol").(*several), Expires: c.Duration("expires")})
			if err != nil {
				return err
			}
			return printCode(e.stdout, c, answer)
		},
	}
}

// several is a flag that may be given several times.
type several []string

// Set implements flag.Value.
func (s *several) Set(text string) error {
	*s = append(*s, text)
	return nil
}

// String implements flag.Value.
func (s *several) String() string { return strings.Join(*s, ",") }

func printCode(w io.Writer, c *cli.Context, a enrolAnswer) error {
	if c.Bool("json") {
		return json.NewEncoder(w).Encode(a)
	}
	url := c.String("url")
	if url == "" {
		url = "https://" + publicName(a.Listen)
	}
	login := "sallyport login " + url + " --user " + c.String("user")
	if a.Pinned {
		login += " --fingerprint " + a.Fingerprint
	}
	_, err := fmt.Fprintf(w, "%s\n%s\n", login, a.Code)
	return err
}

// publicName is a name of this machine with the port that people come in by.
func publicName(listen string) string {
	host, port, _ := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host, _ = os.Hostname()
	}
	if port == "443" {
		return host
	}
	return net.JoinHostPort(host, port)
}

func askForCode(ctx context.Context, cfg *config.Config, ask api.AskCode) (a enrolAnswer, err error) {
	if err := askDaemon(ctx, cfg, http.MethodPost, "enrol-code", ask, &a); err != nil {
		return enrolAnswer{}, err
	}
	if !a.wellFormed() {
		return enrolAnswer{}, nonsense(cfg)
	}
	return a, nil
}

func nonsense(cfg *config.Config) error {
	return fail(1, "", "the daemon's answer on %s makes no sense", filepath.Join(cfg.State, controlSocket))
}

// askDaemon asks the daemon of a configuration on its control socket.
func askDaemon(ctx context.Context, cfg *config.Config, method, what string, ask, answer any) error {
	path := filepath.Join(cfg.State, controlSocket)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
	body, err := json.Marshal(ask)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://daemon/"+what, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(request)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fail(1, "run it as root or as the daemon's user", "the daemon's socket %s is not for you", path)
	case err != nil:
		return fail(1, "start it with sallyportd serve, with the same configuration", "the daemon was not reached at %s", path)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var said refusal
		if err := json.NewDecoder(io.LimitReader(resp.Body, 4<<10)).Decode(&said); err != nil {
			return nonsense(cfg)
		}
		return fail(1, frame.Clip(said.Hint, 300), "%s", frame.Clip(said.Error, 600))
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4<<10)).Decode(answer); err != nil {
		return nonsense(cfg)
	}
	return nil
}

var (
	codeForm        = regexp.MustCompile(`^[0-9A-Z]{4}(-[0-9A-Z]{4}){3}$`)
	fingerprintForm = regexp.MustCompile(`^([0-9a-f]{64})?$`)
	listenForm      = regexp.MustCompile(`^([A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]):[A-Za-z0-9-]+$`)
)

// wellFormed says whether the answer may be printed for root, who will paste it: the socket's folder is the worker's.
func (a enrolAnswer) wellFormed() bool {
	return codeForm.MatchString(a.Code) && fingerprintForm.MatchString(a.Fingerprint) && listenForm.MatchString(a.Listen)
}
