package release

import (
	"context"
	"os"
	"path/filepath"

	"sallyport/appliance/portal/web"
	"sallyport/image/gobuild"
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
	if p.name == "sallyportd" { // which has the portal's pages in it
		b.binary.Scripts = web.Packages()
		notices = append(append(notices, '\n'), web.Licenses()...)
	}
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

// compile compiles a program.
func (c Config) compile(ctx context.Context, p program, file string) error {
	return gobuild.Compile(ctx, gobuild.Config{Source: c.Source, Package: "./cmd/" + p.name, OS: p.os, Arch: p.arch, Out: file,
		Variables: []string{"main.version=" + c.Version}})
}
