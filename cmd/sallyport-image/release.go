package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"sallyport/image/release"
)

func releaseCommand(e env) *cli.Command {
	return &cli.Command{
		Name: "release", Usage: "make archives and Debian packages",
		UsageText: "sallyport-image release --out DIR [options]",
		Description: "Writes the client for Linux, macOS and Windows, Debian packages of client and\n" +
			"daemon, a bill of materials of each, and SHA256SUMS, which is written last.\n" +
			"The same source, version, SOURCE_DATE_EPOCH and Go give the same bytes.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "out", Usage: "write into `DIR`; must be given"},
			&cli.StringFlag{Name: "version", Usage: "call it `VERSION`", Value: version},
			&cli.StringSliceFlag{Name: "platform", Usage: "only for `NAME`, such as linux-amd64"},
			&cli.StringFlag{Name: "source", Usage: "take the source in `DIR`", Value: "."},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() > 0 || c.String("out") == "" {
				return misused("release needs --out DIR and takes no arguments; see: sallyport-image release --help")
			}
			epoch, err := sourceDate()
			if err != nil {
				return err
			}
			names, err := release.Build(c.Context, release.Config{
				Source: c.String("source"), Out: c.String("out"), Version: c.String("version"), Epoch: epoch,
				Platforms: c.StringSlice("platform"),
				Step:      e.progress().step,
			})
			for _, name := range names {
				fmt.Fprintln(e.stdout, name)
			}
			return err
		},
	}
}

// sourceDate reads SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/). Without it, it is zero.
func sourceDate() (time.Time, error) {
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		return time.Time{}, nil
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, misused("SOURCE_DATE_EPOCH is %q, not seconds of Unix time", epoch)
	}
	return time.Unix(seconds, 0), nil
}
