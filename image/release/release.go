// Package release makes what people install: archives of the client for each system, Debian packages of client and daemon,
// their bills of materials, and the sums of all of it.
//
//	files, err := release.Build(ctx, release.Config{Source: ".", Out: "dist", Version: "0.4.0"})
//
// # The same source gives the same bytes
//
// Everything that would differ from one build to the next has a place where it is decided: the order of files (sorted), their
// owners (root) and modes (0644, 0755), their times (Config.Epoch), and what the compiler writes of its surroundings
// (nothing). What is left is the version of Go, which each bill of materials names.
//
// # Where a release can be made
//
// Man pages and completions are what the programs say of themselves, so that programs for this computer are among those
// built, and run. The daemon runs on Linux.
package release

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/image/sbom"
)

// Config says what to release.
type Config struct {
	Source  string    // the root of the source; default: the working directory
	Out     string    // the folder to write into; it is made where it is missing
	Version string    // a semantic version without the v, such as 0.4.0 or 0.4.0-rc.1
	Epoch   time.Time // of every file, not before 1980, when zip archives begin; default: 2026-01-01

	// Platforms are those to release for, as Platforms names them; default: all.
	Platforms []string

	// Step, where it is set, is told of each step as it begins. It is called from one goroutine at a time.
	Step func(what string)
}

func (c Config) withDefaults() Config {
	c.Source = cmp.Or(c.Source, ".")
	if c.Epoch.IsZero() {
		c.Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	c.Epoch = c.Epoch.UTC().Truncate(2 * time.Second) // a zip archive counts in twos
	if len(c.Platforms) == 0 {
		c.Platforms = Platforms()
	}
	if c.Step == nil {
		c.Step = func(string) {}
	}
	return c
}

// validVersion is a semantic version (semver.org 2.0.0 §9, §10) without what a file's name or a control file would trip over.
var validVersion = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?(\+[0-9A-Za-z.]+)?$`)

func (c Config) validate() error {
	var faults []error
	if c.Out == "" {
		faults = append(faults, errors.New("the release needs a folder to be written into"))
	}
	if !validVersion.MatchString(c.Version) {
		faults = append(faults, fmt.Errorf("%q is no version: it must be like 0.4.0 or 0.4.0-rc.1", c.Version))
	}
	if year := c.Epoch.Year(); year < 1980 || year > 2100 {
		faults = append(faults, fmt.Errorf("the time %s must be between 1980, when zip archives begin, and 2100", c.Epoch.Format(time.DateOnly)))
	}
	for _, name := range c.Platforms {
		if !slices.Contains(Platforms(), name) {
			faults = append(faults, fmt.Errorf("there is no release for %q, only for %s", name, strings.Join(Platforms(), ", ")))
		}
	}
	return errors.Join(faults...)
}

// Platforms names what there are releases for, such as linux-amd64.
func Platforms() []string {
	var names []string
	for _, p := range platforms {
		names = append(names, p.String())
	}
	return names
}

// platforms are those that the client is released for.
var platforms = []platform{
	{"linux", "amd64"}, {"linux", "arm64"},
	{"darwin", "amd64"}, {"darwin", "arm64"},
	{"windows", "amd64"}, {"windows", "arm64"},
}

// Build makes a release and returns the names of the files, all of them in Config.Out. A file that is there already is
// replaced. SHA256SUMS is written last: where it is, the release is whole.
func Build(ctx context.Context, c Config) ([]string, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "sallyport-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	r := &release{Config: c, work: work}
	return r.build(ctx)
}

// A release is one that is being made.
type release struct {
	Config
	papers *papers
	work   string // holds programs
}

func (r *release) build(ctx context.Context) ([]string, error) {
	if err := os.MkdirAll(r.Out, 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(r.Out, sumsFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var err error
	if r.papers, err = r.readPapers(ctx); err != nil {
		return nil, err
	}
	packagings, err := r.packagings()
	if err != nil {
		return nil, err
	}
	var outputs []output
	for _, p := range platforms {
		if !slices.Contains(r.Platforms, p.String()) {
			continue
		}
		o, err := r.clientArchive(ctx, p)
		if err != nil {
			return nil, err
		}
		outputs = append(outputs, o)
		if p.os != "linux" {
			continue
		}
		for _, k := range packagings { // Debian and Go call processors the same
			o, err := r.debianPackage(ctx, k, p)
			if err != nil {
				return nil, err
			}
			outputs = append(outputs, o)
		}
	}
	return r.write(ctx, outputs)
}

// An output is a file of a release, and what its bill of materials says of it.
type output struct {
	name   string // of the file
	binary sbom.Binary
	encode func() ([]byte, error)
}

// sumsFile has the form of sha256sum's output, which reads it with --check.
const sumsFile = "SHA256SUMS"

func (r *release) write(ctx context.Context, outputs []output) ([]string, error) {
	r.Step("archives and packages")
	sums := make([]string, 2*len(outputs))
	var group errgroup.Group
	group.SetLimit(2) // of archives of tens of megabytes in memory
	for i, o := range outputs {
		group.Go(func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			data, err := o.encode()
			if err != nil {
				return fmt.Errorf("%s: %w", o.name, err)
			}
			var bill bytes.Buffer
			err = sbom.Write(&bill, sbom.Product{Name: o.name, Version: r.Version, Binaries: []sbom.Binary{o.binary}})
			if err != nil {
				return fmt.Errorf("%s: %w", o.name, err)
			}
			if sums[2*i], err = r.writeFile(o.name, data); err == nil {
				sums[2*i+1], err = r.writeFile(o.name+".cdx.json", bill.Bytes())
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	slices.SortFunc(sums, func(a, b string) int { return cmp.Compare(nameOf(a), nameOf(b)) })
	if _, err := r.writeFile(sumsFile, []byte(strings.Join(sums, ""))); err != nil {
		return nil, err
	}
	names := []string{sumsFile}
	for _, line := range sums {
		names = append(names, nameOf(line))
	}
	return names, nil
}

// writeFile writes a file and returns its line of SHA256SUMS.
func (r *release) writeFile(name string, data []byte) (string, error) {
	path := filepath.Join(r.Out, name)
	if err := os.WriteFile(path+".part", data, 0o644); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x  %s\n", sha256.Sum256(data), name), os.Rename(path+".part", path)
}

func nameOf(sumLine string) string { return strings.TrimSpace(sumLine[2*sha256.Size:]) }
