package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/appliance"
	"sallyport/appliance/access"
	"sallyport/appliance/audit"
	"sallyport/appliance/config"
	"sallyport/host"
)

// An applyRequest is a version that root puts in force, whatever it does to the administrators.
type applyRequest struct {
	Files access.Files `json:"files"`
}

type applyAnswer struct {
	Version int64 `json:"version"`
}

// controlApply puts access files in force for root: the way back in where no administrator is left.
func (d *daemon) controlApply(w http.ResponseWriter, r *http.Request) {
	if d.versions == nil {
		refuse(w, http.StatusBadRequest, errors.New("this appliance reads its access files from its own disk; change them there"))
		return
	}
	var ask applyRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 2*access.MaxTotal)).Decode(&ask); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	number, err := d.versions.force(r, ask.Files)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	json.NewEncoder(w).Encode(applyAnswer{number})
}

// force puts files in force after whatever version is, in root's name.
func (v *versions) force(r *http.Request, files access.Files) (int64, error) {
	ctx := r.Context()
	is, err := v.Read(files)
	if err != nil {
		return 0, err
	}
	was, err := v.Version(ctx, 0)
	if err != nil && !errors.Is(err, appliance.ErrNoVersion) {
		return 0, err
	}
	packed := files.Pack()
	next := appliance.AccessVersion{Created: time.Now(), By: "root", Comment: "sallyportd apply", Hash: access.Hash(packed), Files: files}
	e := audit.Event{Kind: audit.AccessChanged, By: "root", Object: fmt.Sprintf("version %d", was.Number+1), Why: next.Comment,
		Detail: map[string]string{"version": strconv.FormatInt(was.Number+1, 10), "hash": access.HashText(next.Hash)}}
	if err := v.daemon.trail.Write(e); err != nil {
		return 0, errors.New("the audit log cannot be written, and nothing is put in force without")
	}
	number, err := v.Apply(ctx, was.Number, next, access.AccountChanges(access.AccountsOf(was.Files), is.Accounts))
	if err != nil {
		e.Code, e.Why = "E_CONFLICT", err.Error()
		v.daemon.write(e)
		return 0, err
	}
	v.daemon.log.Info("access version taken", "version", number, "by", "root", "hash", access.HashText(next.Hash))
	return number, nil
}

func applyCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "apply", Usage: "put access files in the database in force, as root",
		Description: "For an appliance that has no administrator yet, or none any more: it does not\nask, and does not compare. Else use sallyport admin apply.",
		Flags:       []cli.Flag{configFlag, &cli.StringFlag{Name: "file", Aliases: []string{"f"}, Usage: "the folder, or access.yaml, at `PATH`; must be given"}},
		Action: func(c *cli.Context) error {
			if err := none(c); err != nil {
				return err
			}
			path := c.String("file")
			if path == "" {
				return misused(c, "needs --file PATH")
			}
			_, cfg, err := load(c)
			if err != nil {
				return err
			}
			if cfg.Access != config.InDatabase {
				return fail(1, "change the files there", "the appliance reads its access files from %s", cfg.Access)
			}
			read, err := host.ReadFiles(path, accessFiles)
			if err != nil {
				return unreadable(err)
			}
			if _, err := parsePolicy(cfg, read, policyOptions(cfg)); err != nil {
				return err
			}
			var a applyAnswer
			if err := askDaemon(c.Context, cfg, http.MethodPost, "access", applyRequest{access.FromFolder(read)}, &a); err != nil {
				return err
			}
			_, err = fmt.Fprintf(e.stdout, "version %d is in force\n", a.Version)
			return err
		},
	}
}
