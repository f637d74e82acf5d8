package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/image"
	"sallyport/image/deb"
)

func buildCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "build", Usage: "build an image",
		UsageText: "sallyport-image build --flavour kvm --out DIR [options]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "flavour", Usage: "the machines it is for: " + strings.Join(image.Flavours(), ", "), Value: "all"},
			&cli.StringFlag{Name: "out", Usage: "the `folder` that the files go to", Required: true},
			&cli.StringFlag{Name: "version", Usage: "the version that it gets", Value: version},
			&cli.StringFlag{Name: "cache", Usage: "the `folder` that Debian's packages are kept in"},
			&cli.StringSliceFlag{Name: "mirror", Usage: "a Debian mirror's `URL`; {archive} stands for debian or debian-security"},
			&cli.StringFlag{Name: "daemon", Usage: "a built static sallyportd `file` to take"},
			&cli.StringFlag{Name: "stub", Usage: "an EFI boot stub `file` to take instead of Debian's"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 {
				return misused("build takes no arguments; see: sallyport-image build --help")
			}
			began := time.Now()
			_, err := image.Build(c.Context, image.Options{
				Flavour: c.String("flavour"), Version: c.String("version"), Out: c.String("out"), Daemon: c.String("daemon"),
				Stub:  c.String("stub"),
				Cache: deb.Cache{Dir: c.String("cache"), Mirrors: c.StringSlice("mirror")},
				Step: func(what string) {
					fmt.Fprintf(e.stderr, "%6.1f s  %s\n", time.Since(began).Seconds(), what)
				},
			})
			return err
		},
	}
}
