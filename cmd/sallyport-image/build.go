package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/urfave/cli/v2"

	"sallyport/image"
	"sallyport/image/deb"
	"sallyport/image/update"
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
			var err error
			if o.Epoch, err = sourceDate(); err != nil {
				return err
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
			"status 1 if anything does. Of a signed image the signatures are left out.\n" +
			"Which updates it takes is printed; compare that, or give --update-keys.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "update-keys", Usage: "it must take the updates of these `KEYS` and of no\nothers, with commas between; \"\" for none"},
		}, sources()...),
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return misused("verify takes one folder; see: sallyport-image verify --help")
			}
			differences, m, err := image.Verify(c.Context, c.Args().First(), e.options(c))
			if err != nil {
				return hinted(err)
			}
			if c.IsSet("update-keys") {
				same, err := sameKeys(m.Updates, c.String("update-keys"))
				if err != nil {
					return misused("--update-keys: %v", err)
				}
				if !same {
					differences = append([]image.Difference{{What: "update keys", Had: c.String("update-keys"), Have: m.Updates}}, differences...)
				}
			}
			if len(differences) == 0 {
				return e.verified(c.Args().First(), m)
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

// verified says what an image is that was verified, and whom it believes.
func (e env) verified(dir string, m *image.Manifest) error {
	text := fmt.Sprintf("%s is Sallyport %s for %s, bit by bit\n", dir, m.Version, m.Flavour)
	if m.Signed != nil {
		text += fmt.Sprintf("signed by %s, SHA-256 of the certificate %s\n", m.Signed.Subject, m.Signed.SHA256)
	}
	keys, err := update.ParseKeys(m.Updates)
	if err != nil {
		return fmt.Errorf("update keys in the manifest: %w", err)
	}
	for _, k := range keys {
		text += "takes updates signed by " + update.FormatKey(k) + "\n"
	}
	if len(keys) == 0 {
		text += "takes no updates but those of keys in its configuration\n"
	}
	_, err = io.WriteString(e.stdout, text)
	return err
}

// sameKeys says whether two lists have the same keys.
func sameKeys(a, b string) (bool, error) {
	var sets [2]map[string]bool
	for i, text := range []string{a, b} {
		keys, err := update.ParseKeys(text)
		if err != nil {
			return false, err
		}
		sets[i] = map[string]bool{}
		for _, k := range keys {
			sets[i][string(k)] = true
		}
	}
	return maps.Equal(sets[0], sets[1]), nil
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
