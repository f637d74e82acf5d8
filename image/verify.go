package image

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
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
// modules and sections, then files. Of o it takes Cache, Source, Daemon, Stub, Step and Fetching.
//
// Of a signed image the signatures are taken as they are, and everything else is made again around them: nothing that the
// manifest says of it is believed. Which updates the image takes is what the manifest says, and not judged here.
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
		more, err := resigned(ctx, dir, again, had)
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

// resigned compares the signed image in dir with the unsigned one in again. What has been signed must be the same without its
// signature; the other files are made again, the disks with the signed programs in them, and must be the same throughout.
func resigned(ctx context.Context, dir, again string, m *Manifest) ([]Difference, error) {
	work, err := os.MkdirTemp("", "sallyport-verify-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	b := &builder{in: new(inputs), Options: Options{Version: m.Version, Flavour: m.Flavour, Epoch: time.Unix(m.Epoch, 0).UTC(), Out: work, Step: func(string) {}}}
	raw, efi := b.file(".raw"), b.file(".efi")
	var d []Difference
	// program wants a program to be the built one but for its signatures, one of which is by whom the manifest says.
	program := func(name string, had, have []byte) error {
		bare, err := uki.Strip(had)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", dir, name, err)
		}
		built, err := uki.Strip(have)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if !bytes.Equal(bare, built) {
			d = append(d, Difference{name + " without its signature", sum(built), sum(bare)})
		}
		signers, err := uki.Signers(had)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", dir, name, err)
		}
		if !slices.ContainsFunc(signers, func(s uki.Signature) bool { return s.Holds && sum(s.Cert.Raw) == m.Signed.SHA256 }) {
			d = append(d, Difference{"signature of " + name, m.Signed.SHA256, ""})
		}
		return nil
	}

	unified, err := os.ReadFile(filepath.Join(dir, efi))
	if err != nil {
		return nil, err
	}
	built, err := os.ReadFile(filepath.Join(again, efi))
	if err != nil {
		return nil, err
	}
	if err := program(efi, unified, built); err != nil {
		return nil, err
	}
	if b.in.loader, err = bootLoader(filepath.Join(dir, raw)); err != nil {
		return nil, err
	}
	if built, err = bootLoader(filepath.Join(again, raw)); err != nil {
		return nil, err
	}
	if err := program(raw+" "+loaderPath, b.in.loader, built); err != nil {
		return nil, err
	}
	disks, err := b.disks(ctx, unified)
	if err != nil {
		return nil, err
	}
	made := map[string]string{efi: dir} // folders
	for _, name := range disks {
		made[name] = work
	}
	for _, name := range copied(b.Options) {
		made[name] = again
	}
	for _, p := range m.Files {
		folder, ok := made[p.Name]
		if !ok {
			d = append(d, Difference{filepath.Join(dir, p.Name), "", p.SHA256})
			continue
		}
		delete(made, p.Name)
		want, err := filePart(folder, p.Name)
		if err != nil {
			return nil, err
		}
		if now, err := filePart(dir, p.Name); err == nil && now != want { // Verify tells of one that is not there
			d = append(d, Difference{filepath.Join(dir, p.Name), want.SHA256, now.SHA256})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(made)) {
		d = append(d, Difference{"file " + name, "", ""})
	}
	return d, nil
}

// bootLoader reads the boot loader on a raw disk.
func bootLoader(raw string) ([]byte, error) {
	c, err := disk.Read(raw)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(c.Files, func(f disk.File) bool { return f.Path == loaderPath })
	if at < 0 {
		return nil, fmt.Errorf("%s has no %s", raw, loaderPath)
	}
	return c.Files[at].Data, nil
}
