package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"sallyport/appliance/api"
	"sallyport/client"
	"sallyport/frame"
)

func (c *command) clients() *cli.Command {
	put := &cli.Command{
		Name: "put", Usage: "bring a release of the client", ArgsUsage: "FOLDER",
		Description: "  sallyport admin clients put bin/release\n\nFOLDER is one that make release has written. Each file of the client in its\nSHA256SUMS is compared and brought. Those of before are not offered any more.\nAn appliance of a fleet has its own.",
		Action: func(x *cli.Context) error {
			folder, err := only(x, "folder")
			if err != nil {
				return err
			}
			return c.putClients(x.Context, folder)
		},
	}
	return &cli.Command{
		Name: "clients", Usage: "list the files of the client that people download",
		Description: "  sallyport admin clients\n  sallyport admin clients put bin/release",
		Subcommands: []*cli.Command{put},
		Action: func(x *cli.Context) error {
			if x.Args().Present() {
				return unknownCommand(x.Command.Subcommands, "sallyport admin clients", x.Args().First())
			}
			return c.ask(func(to *client.API) error {
				list, err := to.Clients(x.Context)
				if err != nil {
					return err
				}
				return c.listClients(list)
			})
		},
	}
}

func (c *command) listClients(list []api.ClientFile) error {
	if c.json {
		return c.print(list)
	}
	if len(list) == 0 {
		c.say("the appliance offers no files of the client")
	}
	rows := [][]string{{"FILE", "SYSTEM", "CPU", "SIZE", "SHA-256"}}
	for _, f := range list {
		rows = append(rows, []string{f.Name, f.System, f.Arch, mib(f.Size), f.SHA256})
	}
	return c.table(rows...)
}

// sumsFile is the file of a release with the hashes of the others.
const sumsFile = "SHA256SUMS"

// A releaseFile is a file of a release's client.
type releaseFile struct{ name, sum string }

// ofClient is what make release calls the client's files. Those of the appliance begin with sallyportd.
var ofClient = regexp.MustCompile(`^sallyport[-_][0-9A-Za-z.+~_-]+\.(tar\.gz|zip|deb)$`)

// putClients brings what a folder has, and at last its hashes.
func (c *command) putClients(ctx context.Context, folder string) error {
	text, err := os.ReadFile(filepath.Join(folder, sumsFile))
	if err != nil {
		return usage(fmt.Sprintf("%s is no folder of a release: %v", folder, err), "make release writes one")
	}
	files, err := releaseFiles(folder, string(text))
	if err != nil {
		return err
	}
	return c.ask(func(to *client.API) error {
		var sums strings.Builder
		there := map[releaseFile]bool{}
		before, err := to.Clients(ctx)
		if err != nil {
			return err
		}
		for _, f := range before {
			there[releaseFile{f.Name, f.SHA256}] = true
		}
		for _, f := range files {
			fmt.Fprintf(&sums, "%s  %s\n", f.sum, f.name)
			if there[f] {
				continue
			}
			if err := c.bringClient(ctx, to, folder, f); err != nil {
				return err
			}
		}
		last := []byte(sums.String())
		sum := sha256.Sum256(last)
		if err := to.BringClient(ctx, sumsFile, client.Upload{ID: hex.EncodeToString(sum[:]), Size: int64(len(last)), File: bytes.NewReader(last)}); err != nil {
			return err
		}
		now, err := to.Clients(ctx)
		if err != nil {
			return err
		}
		return c.listClients(now)
	})
}

// releaseFiles are the client's files that a folder has, each compared with its hash.
func releaseFiles(folder, sums string) (files []releaseFile, err error) {
	for line := range strings.Lines(sums) {
		sum, name, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		if name = strings.TrimLeft(name, " *"); !ofClient.MatchString(name) || name != filepath.Base(name) {
			continue
		}
		f, err := os.Open(filepath.Join(folder, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // a release for some systems only
		}
		h := sha256.New()
		if err == nil {
			_, err = io.Copy(h, f)
			f.Close()
		}
		if err != nil {
			return nil, usage(fmt.Sprintf("%s cannot be read: %v", name, err), "")
		}
		if is := hex.EncodeToString(h.Sum(nil)); is != sum {
			return nil, usage(fmt.Sprintf("%s is not what %s says", frame.Clip(name, 100), sumsFile), "it was changed or cut short: make or fetch the release again")
		}
		files = append(files, releaseFile{name, sum})
	}
	if len(files) == 0 {
		return nil, usage(fmt.Sprintf("%s has no file of the client that its %s names", folder, sumsFile), "make release writes them")
	}
	return files, nil
}

func (c *command) bringClient(ctx context.Context, to *client.API, folder string, r releaseFile) error {
	f, err := os.Open(filepath.Join(folder, r.name))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	show, end := c.meter(r.name+":", info.Size())
	defer end()
	return to.BringClient(ctx, r.name, client.Upload{ID: r.sum, Size: info.Size(), File: f, Told: show})
}
