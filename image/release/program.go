package release

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sallyport/image/sbom"
)

// A platform is what a program runs on, in Go's words.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "-" + p.arch }

// executable is a program's file name there.
func (p platform) executable(name string) string {
	if p.os == "windows" {
		return name + ".exe"
	}
	return name
}

// tags leave out what our programs do not use: the command library's own manual pages are 300 KB of each.
const tags = "urfave_cli_no_docs"

// environment is that of the Go command: nothing in ours changes what it makes.
func (p platform) environment() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOFLAGS=", "GOEXPERIMENT=",
		"GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off", "GOWORK=off")
}

// A program is one of cmd/ for a platform.
type program struct {
	name string
	platform
}

// A built program: its file and what it was built from.
type built struct {
	file   string
	binary sbom.Binary
}

// linked compiles a program, once, and finds the licences of what it consists of.
func (r *release) linked(ctx context.Context, p program) (built, []byte, error) {
	r.Step(p.name + " for " + p.String())
	b, err := r.program(ctx, p)
	if err != nil {
		return b, nil, err
	}
	notices, err := r.notices(ctx, p)
	return b, notices, err
}

// program compiles a program, once.
func (r *release) program(ctx context.Context, p program) (built, error) {
	file := filepath.Join(r.work, p.executable(p.name+"-"+p.String()))
	if _, err := os.Stat(file); err != nil {
		if err := r.compile(ctx, p, file); err != nil {
			return built{}, err
		}
	}
	binary, err := sbom.ReadBinary(p.name, r.Version, file)
	return built{file, binary}, err
}

// compile runs the Go command. Nothing of this computer gets into the program: not the path of its source (-trimpath), the
// state of a repository (-buildvcs), or a linker's identification (-buildid).
func (c Config) compile(ctx context.Context, p program, file string) error {
	absolute, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags", tags,
		"-ldflags", "-s -w -buildid= -X main.version="+c.Version, "-o", absolute, "./cmd/"+p.name)
	build.Dir, build.Env = c.Source, p.environment()
	var said bytes.Buffer
	build.Stderr = &said
	if err := build.Run(); err != nil {
		return fmt.Errorf("compile %s for %s: %w: %s", p.name, p, err, strings.TrimSpace(said.String()))
	}
	return nil
}
