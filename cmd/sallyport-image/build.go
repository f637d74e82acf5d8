package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/image"
	"sallyport/image/deb"
)

// sources are the flags that say where the parts of an image come from.
func sources() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "cache", Usage: "the `FOLDER` that Debian's packages are kept in"},
		&cli.StringSliceFlag{Name: "mirror", Usage: "the `URL` of a Debian mirror;\n{archive} in it stands for debian or debian-security"},
		&cli.StringFlag{Name: "source", Usage: "the `FOLDER` of Sallyport's source", Value: "."},
		&cli.StringFlag{Name: "daemon", Usage: "a built static sallyportd, instead of building it", TakesFile: true},
		&cli.StringFlag{Name: "stub", Usage: "an EFI boot stub, instead of Debian's", TakesFile: true},
	}
}

// options are what those flags say.
func (e env) options(c *cli.Context) image.Options {
	p := e.progress()
	return image.Options{
		Source: c.String("source"), Daemon: c.String("daemon"), Stub: c.String("stub"),
		Cache: deb.Cache{Dir: c.String("cache"), Mirrors: c.StringSlice("mirror")},
		Step:  p.step, Fetching: p.fetching,
	}
}

func buildCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "build", Usage: "build an image",
		UsageText:   "sallyport-image build --out DIR [options]",
		Description: "SOURCE_DATE_EPOCH gives the files in the image their time, in seconds of\nUnix time.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "flavour", Usage: "the machines it is for:\n" + strings.Join(image.Flavours(), ", "), Value: "all"},
			&cli.StringFlag{Name: "out", Usage: "the `FOLDER` that the files go to"},
			&cli.StringFlag{Name: "version", Usage: "the image's version", Value: version},
			&cli.StringFlag{Name: "update-keys", Usage: "the public `KEYS` of update-key whose updates it\ntakes, with commas between"},
		}, sources()...),
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 || c.String("out") == "" {
				return misused("build needs --out DIR and takes no arguments; see: sallyport-image build --help")
			}
			o := e.options(c)
			o.Flavour, o.Version, o.Out = c.String("flavour"), c.String("version"), c.String("out")
			o.Updates = c.String("update-keys")
			if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
				seconds, err := strconv.ParseInt(text, 10, 64)
				if err != nil {
					return misused("SOURCE_DATE_EPOCH is %q, not seconds of Unix time", text)
				}
				o.Epoch = time.Unix(seconds, 0).UTC()
			}
			m, err := image.Build(c.Context, o)
			if err != nil {
				return hinted(err)
			}
			return e.files(m, o.Out)
		},
	}
}

// files prints what was written.
func (e env) files(m *image.Manifest, dir string) error {
	for _, f := range m.Files {
		if _, err := fmt.Fprintf(e.stdout, "%s  %9d  %s/%s\n", f.SHA256[:16], f.Size, dir, f.Name); err != nil {
			return err
		}
	}
	return nil
}

// hinted adds what to do about an error.
func hinted(err error) error {
	var missing *deb.MissingError
	switch {
	case errors.As(err, &missing) && errors.Is(err, deb.ErrHash):
		return &exit{exitFailed, err, "the mirror has something else under that name; try another with --mirror"}
	case errors.As(err, &missing):
		return &exit{exitFailed, err, "put the file there, or name a mirror with --mirror URL"}
	case errors.Is(err, context.Canceled):
		return &exit{exitFailed, errors.New("interrupted"), ""}
	}
	return err
}

func verifyCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "build an image again and compare it bit by bit", ArgsUsage: "DIR",
		UsageText: "sallyport-image verify [options] DIR",
		Description: "DIR is a folder that build or sign has written. It is built again of the\n" +
			"source of that version. Prints what differs, causes first, and ends with\n" +
			"status 1 if anything does. Of a signed image the signatures are left out.",
		Flags: sources(),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misused("verify takes one folder; see: sallyport-image verify --help")
			}
			differences, m, err := image.Verify(c.Context, c.Args().First(), e.options(c))
			if err != nil {
				return hinted(err)
			}
			if len(differences) == 0 {
				_, err := fmt.Fprintf(e.stdout, "%s is Sallyport %s for %s, bit by bit\n", c.Args().First(), m.Version, m.Flavour)
				return err
			}
			for _, d := range differences {
				if _, err := fmt.Fprintf(e.stdout, "%s: was %s, is %s\n", d.What, short(d.Had), short(d.Have)); err != nil {
					return err
				}
			}
			return &exit{exitFailed, fmt.Errorf("%d parts differ", len(differences)),
				"the first is the cause of the others, if it is an input, the toolchain or sallyportd"}
		},
	}
}

// short is as much of a hash as people compare.
func short(s string) string {
	if s == "" {
		return "missing"
	}
	if len(s) == 64 && !strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }) {
		return s[:16]
	}
	return s
}
