package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"sallyport/frame"
)

// version is set by the linker.
var version string

// versionText is the release, or what the build knows of its source.
func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "devel"
}

func (c *command) version() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "show what this is",
		Action: func(x *cli.Context) error {
			if err := none(x); err != nil {
				return err
			}
			platform := runtime.GOOS + "/" + runtime.GOARCH
			if c.json {
				return c.print(map[string]any{"version": versionText(), "protocol": frame.Version, "platform": platform, "go": runtime.Version()})
			}
			_, err := fmt.Fprintf(c.Stdout, "sallyport %s, protocol %d, %s, %s\n", versionText(), frame.Version, platform, runtime.Version())
			return err
		},
	}
}
