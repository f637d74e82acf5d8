package image

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport/image/disk"
	"sallyport/image/uki"
)

// A Difference is something that a rebuilt image has otherwise, or in which a file is not what its manifest says.
type Difference struct {
	What      string // a section, a module, a file
	Had, Have string // how it was and how it is; "" where it is missing
}

// Verify builds the image in the folder dir again, from this source and the packages that its manifest pins, and compares
// bit by bit. It returns what differs, causes before what follows from them: first the toolchain and the daemon, then
// modules and sections, then files. Of o it takes Cache, Source, Daemon,
// Stub, Step and Fetching.
func Verify(ctx context.Context, dir string, o Options) ([]Difference, *Manifest, error) {
	had, err := ReadManifest(dir)
	if err != nil {
		return nil, nil, err
	}
	if !had.Daemon.Built && o.Daemon == "" {
		return nil, nil, fmt.Errorf("%s was built with a given sallyportd (SHA-256 %s): name it with --daemon", dir, had.Daemon.SHA256)
	}
	stub := slices.ContainsFunc(had.Inputs, func(i Input) bool { return i.Name == stubInput })
	if stub && o.Stub == "" {
		return nil, nil, fmt.Errorf("%s was built with a given boot stub: name it with --stub", dir)
	}
	again, err := os.MkdirTemp("", "sallyport-verify-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(again)
	o.Flavour, o.Version, o.Updates, o.Epoch, o.Out = had.Flavour, had.Version, had.Updates, time.Unix(had.Epoch, 0).UTC(), again
	have, err := Build(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	built := *had
	if had.Signed != nil {
		built.Files = had.Signed.Unsigned
	}
	differences := compare(&built, have)
	if had.Signed != nil {
		more, err := stripped(dir, again, had)
		if err != nil {
			return nil, nil, err
		}
		differences = append(differences, more...)
	}
	for _, p := range had.Files {
		switch now, err := filePart(dir, p.Name); {
		case os.IsNotExist(err):
			differences = append(differences, Difference{filepath.Join(dir, p.Name), p.SHA256, ""})
		case err != nil:
			return nil, nil, err
		case now != p:
			differences = append(differences, Difference{filepath.Join(dir, p.Name), p.SHA256, now.SHA256})
		}
	}
	return differences, had, nil
}

// compare lists what differs between what was built and what is built now.
func compare(had, have *Manifest) []Difference {
	var d []Difference
	text := func(what, had, have string) {
		if had != have {
			d = append(d, Difference{what, had, have})
		}
	}
	parts := func(kind string, had, have []Part) {
		now := map[string]Part{}
		for _, p := range have {
			now[p.Name] = p
		}
		for _, p := range had {
			text(kind+" "+p.Name, p.SHA256, now[p.Name].SHA256)
			delete(now, p.Name)
		}
		for _, p := range have {
			if _, more := now[p.Name]; more {
				text(kind+" "+p.Name, "", p.SHA256)
			}
		}
	}
	inputs := func(m *Manifest) (parts []Part) {
		for _, i := range m.Inputs {
			parts = append(parts, Part{i.File, i.Size, i.SHA256})
		}
		return parts
	}
	tools := func(m *Manifest) (all string) {
		for _, t := range m.Tools {
			all += t.Name + " " + t.Version + " "
		}
		return all
	}
	parts("input", inputs(had), inputs(have))
	text("toolchain", had.Daemon.Go, have.Daemon.Go)
	text("tools", tools(had), tools(have))
	text("sallyportd", had.Daemon.SHA256, have.Daemon.SHA256)
	text("command line", had.CommandLine, have.CommandLine)
	parts("module", had.Modules, have.Modules)
	parts("section", had.Sections, have.Sections)
	parts("file", had.Files, have.Files)
	return d
}

// stripped compares the EFI programs of a signed image, without the signatures, with those that were built again.
func stripped(dir, again string, m *Manifest) ([]Difference, error) {
	o := Options{Version: m.Version, Flavour: m.Flavour}
	programs := func(dir string) (map[string][]byte, error) {
		found := map[string][]byte{}
		name := filepath.Join(dir, o.file(".efi"))
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		found[o.file(".efi")] = b
		c, err := disk.Read(filepath.Join(dir, o.file(".raw")))
		if err != nil {
			return nil, err
		}
		for _, f := range c.Files {
			found[o.file(".raw")+" "+f.Path] = f.Data
		}
		for name, b := range found {
			if strings.HasSuffix(strings.ToLower(name), ".efi") {
				if found[name], err = uki.Strip(b); err != nil {
					return nil, fmt.Errorf("%s: %s: %w", dir, name, err)
				}
			}
		}
		return found, nil
	}
	had, err := programs(dir)
	if err != nil {
		return nil, err
	}
	have, err := programs(again)
	if err != nil {
		return nil, err
	}
	var d []Difference
	for _, name := range slices.Sorted(maps.Keys(had)) {
		if now, there := have[name]; !there || !bytes.Equal(had[name], now) {
			d = append(d, Difference{name + " without its signature", sum(had[name]), sum(now)})
		}
	}
	return d, nil
}
