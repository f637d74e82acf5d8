package main

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/audit"
	"sallyport/client"
	"sallyport/frame"
)

func (c *command) auditKey() *cli.Command {
	return &cli.Command{
		Name: "key", Usage: "print the key that the log is verified by",
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			return c.ask(func(api *client.API) error {
				key, err := api.AuditKey(x.Context)
				if err != nil {
					return err
				}
				if c.json {
					return c.print(key)
				}
				_, err = fmt.Fprintln(c.Stdout, frame.Clip(key.Key, 128))
				return err
			})
		},
	}
}

// verified is what is printed of a log.
type verified struct {
	Whole    bool   `json:"whole"`
	First    uint64 `json:"first"`
	Last     uint64 `json:"last"`
	Segments int    `json:"segments"`
	Signed   uint64 `json:"signed"`            // the last line that a signature covers
	Removed  uint64 `json:"removed,omitempty"` // by retention, up to this line
	Broken   string `json:"broken,omitempty"`  // the first line that is not as it was written
}

func (c *command) auditVerify() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "check that a copy of the log is whole", ArgsUsage: "FOLDER",
		Description: "  sallyport audit key > audit-key\n  sallyport audit verify --key audit-key /backup/audit\n\n" +
			"Keep the key where the appliance's administrators cannot change it. No\nappliance is asked. Exit status: 0 whole, 1 not; the first line that was\n" +
			"changed, taken out, put in, moved or cut off is named.",
		Flags: []cli.Flag{&cli.StringSliceFlag{Name: "key", Usage: "the `FILE` that audit key has printed"}},
		Action: func(x *cli.Context) error {
			folder, err := only(x, "folder")
			if err != nil {
				return err
			}
			var v audit.Verifier
			for _, path := range x.StringSlice("key") {
				key, err := publicKey(path)
				if err != nil {
					return usage(err.Error(), "sallyport audit key prints it")
				}
				v.Keys = append(v.Keys, key)
			}
			if len(v.Keys) == 0 {
				return usage("a key is needed", "--key FILE, with what sallyport audit key has printed")
			}
			report, err := v.Verify(os.DirFS(folder))
			var broken *audit.Broken
			if err != nil && !errors.As(err, &broken) {
				return err
			}
			out := verified{Whole: err == nil, First: report.First, Last: report.Last, Segments: report.Segments, Signed: report.Head.Seq, Removed: report.Removed}
			if broken != nil {
				out.Broken = broken.Error()
			}
			return c.printVerified(out)
		},
	}
}

func (c *command) printVerified(v verified) error {
	switch {
	case c.json:
		if err := c.print(v); err != nil {
			return err
		}
	case v.Whole:
		if _, err := fmt.Fprintf(c.Stdout, "whole: lines %d to %d in %d files, signed up to %d\n", v.First, v.Last, v.Segments, v.Signed); err != nil {
			return err
		}
	default:
		c.say("the log is not whole: " + frame.Clip(v.Broken, 500))
	}
	if !v.Whole {
		return exitStatus(1)
	}
	return nil
}

// publicKey reads a key as audit key prints it.
func publicKey(path string) (ed25519.PublicKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%s holds no key of the audit log", path)
	}
	return key, nil
}
