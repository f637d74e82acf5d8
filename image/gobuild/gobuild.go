// Package gobuild compiles the programs that are shipped. Their bytes depend on the source, the version and the toolchain,
// and on nothing else: neither on the computer, nor on what its owner has told Go.
//
//	err := gobuild.Compile(ctx, gobuild.Config{Source: ".", Package: "./cmd/sallyport", OS: "linux", Arch: "amd64",
//		Variables: []string{"main.version=1.4.0"}, Out: "sallyport"})
package gobuild

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Tags leave out what our programs do not use: the command library's own manual pages are 300 KB of each.
const Tags = "urfave_cli_no_docs"

// A Config says what to compile.
type Config struct {
	Source    string   // the folder of the module
	Package   string   // in it, such as ./cmd/sallyportd
	OS, Arch  string   // in Go's words
	Variables []string // that the linker sets, such as main.version=1.4.0
	Symbols   bool     // are kept; a program that is shipped has none
	Out       string   // the file
}

// Compile runs the Go command. Nothing of this computer gets into the program: not the path of its source (-trimpath), the
// state of a repository (-buildvcs), or a linker's identification (-buildid). An error has what the command has said.
func Compile(ctx context.Context, c Config) error {
	out, err := filepath.Abs(c.Out)
	if err != nil {
		return err
	}
	flags := "-w -buildid="
	if !c.Symbols {
		flags = "-s " + flags
	}
	for _, v := range c.Variables {
		flags += " -X " + v
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags", Tags, "-ldflags", flags, "-o", out, c.Package)
	build.Dir = c.Source
	if build.Env, err = Environment(ctx, c.OS, c.Arch); err != nil {
		return err
	}
	var said bytes.Buffer
	build.Stdout, build.Stderr = &said, &said
	if err := build.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("compile %s for %s-%s: %w: %s", c.Package, c.OS, c.Arch, err, strings.TrimSpace(said.String()))
	}
	return nil
}

// kept are the settings of Go that stay: where modules and toolchains come from, and where they are kept. What a module
// must be go.sum says, and which toolchain it was a program says.
var kept = []string{"GOAUTH", "GOCACHE", "GOINSECURE", "GOMODCACHE", "GONOPROXY", "GONOSUMDB", "GOPRIVATE", "GOPROXY", "GOSUMDB", "GOTOOLCHAIN", "GOVCS"}

// Environment is that of a Go command for a platform. To leave a variable empty would not do: what go env -w has written
// then counts, so that file is not read.
func Environment(ctx context.Context, goos, goarch string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "go", append([]string{"env", "-json"}, kept...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("ask Go for its settings: %w", err)
	}
	var settings map[string]string
	if err := json.Unmarshal(out, &settings); err != nil {
		return nil, fmt.Errorf("ask Go for its settings: %w", err)
	}
	env := os.Environ()
	for _, name := range kept {
		env = append(env, name+"="+settings[name])
	}
	return append(env, "GOENV=off", "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch, "GO111MODULE=on", "GOFLAGS=", "GOEXPERIMENT=",
		"GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off", "GOWORK=off"), nil
}
