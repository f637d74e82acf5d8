package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/appliance/audit"
	"sallyport/appliance/auth"
	"sallyport/frame"
)

// An accountRequest asks the daemon for an account and a set-up link.
type accountRequest struct {
	User   string   `json:"user"`
	Groups []string `json:"groups"`
	Reset  bool     `json:"reset"` // of one that is there
}

type accountAnswer struct {
	Path   string `json:"path"`
	Listen string `json:"listen"`
}

var setUpForm = regexp.MustCompile(`^/setup#[A-Za-z0-9_-]{22}$`)

// wellFormed says whether the answer may be printed for root.
func (a accountAnswer) wellFormed() bool {
	return setUpForm.MatchString(a.Path) && listenForm.MatchString(a.Listen)
}

// controlAccounts makes an account, or resets one, for root.
func (d *daemon) controlAccounts(w http.ResponseWriter, r *http.Request) {
	var ask accountRequest
	err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&ask)
	if err == nil {
		err = auth.CheckUser(ask.User)
	}
	if err == nil {
		err = d.gateway.CheckGroups(ask.Groups)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	e := audit.Event{Kind: audit.AccountCreated, User: ask.User, Object: ask.User, By: "root", Detail: map[string]string{"groups": frame.Clip(strings.Join(ask.Groups, ","), 500)}}
	if ask.Reset {
		e.Kind, e.Detail = audit.AccountSetUp, map[string]string{"reset": "all credentials"}
	}
	if err := d.trail.Write(e); err != nil {
		refuse(w, http.StatusServiceUnavailable, errors.New("the audit log cannot be written, and no link is given out without"))
		return
	}
	var link api.SetUp
	if ask.Reset {
		link, err = accounts{d.store}.Reset(r.Context(), ask.User, api.ResetAccount{})
	} else {
		link, err = accounts{d.store}.Add(r.Context(), ask.User, slices.Compact(slices.Sorted(slices.Values(ask.Groups))))
	}
	if err != nil {
		e.Code, e.Why = "E_REFUSED", frame.Clip(err.Error(), 255)
		d.write(e)
		refuse(w, http.StatusBadRequest, err)
		return
	}
	d.log.Info("set-up link made", "user", ask.User, "by", "root")
	json.NewEncoder(w).Encode(accountAnswer{Path: link.Path, Listen: where(d.cfg)})
}

func accountsCommand(e env) *cli.Command {
	user := &cli.StringFlag{Name: "user", Usage: "whose account, by `NAME`; must be given"}
	url := &cli.StringFlag{Name: "url", Usage: "people come in at `URL`; default identity.url"}
	do := func(c *cli.Context, reset bool) error {
		if err := none(c); err != nil {
			return err
		}
		var bad *auth.Error
		switch name := c.String("user"); {
		case name == "":
			return misused(c, "needs --user NAME")
		case errors.As(auth.CheckUser(name), &bad):
			return fail(exitUsage, bad.Hint, "%w", bad)
		}
		_, cfg, err := load(c)
		if err != nil {
			return err
		}
		var a accountAnswer
		if err := askDaemon(c.Context, cfg, http.MethodPost, "accounts", accountRequest{c.String("user"), c.StringSlice("group"), reset}, &a); err != nil {
			return err
		}
		if !a.wellFormed() {
			return nonsense(cfg)
		}
		// The page takes what is set up from its own address only.
		address := cmp.Or(strings.TrimSuffix(c.String("url"), "/"), cfg.Identity.URL, "https://"+publicName(a.Listen))
		_, err = fmt.Fprintln(e.stdout, address+a.Path)
		return err
	}
	command := &cli.Command{
		Name: "accounts", ArgsUsage: "add|reset", Usage: "make a local account, or a way into one that is lost",
		Description: "Prints a link. Who opens it first, within 24 hours, chooses the account's\npassword and second factor. Everything else about accounts is in\nsallyport admin accounts.",
		Subcommands: []*cli.Command{{
			Name: "add", Usage: "make an account, such as the first administrator's",
			Flags:  []cli.Flag{configFlag, user, &cli.StringSliceFlag{Name: "group", Usage: "put it into `GROUP`; may be repeated"}, url},
			Action: func(c *cli.Context) error { return do(c, false) },
		}, {
			Name: "reset", Usage: "take an account's credentials off and make a new link",
			Flags:  []cli.Flag{configFlag, user, url},
			Action: func(c *cli.Context) error { return do(c, true) },
		}},
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return cli.ShowSubcommandHelp(c)
			}
			return fail(exitUsage, "run: sallyportd accounts --help", "there is no command %q", frame.Clip(c.Args().First(), 64))
		},
	}
	for _, sub := range command.Subcommands {
		sub.HideHelpCommand = true
		sub.UsageText = "sallyportd accounts " + sub.Name + " [options]"
		sub.OnUsageError = badUsage("sallyportd accounts " + sub.Name)
	}
	return command
}
