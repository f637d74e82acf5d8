package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport/appliance/config"
	"sallyport/host/metadata"
	"sallyport/host/source"
)

// checkDocument says all that is wrong with the document of an image, and with what it carries, as check does with files.
// Names in the faults are those of the files in the document.
func checkDocument(d source.Document) error {
	d, err := d.Split()
	var misplaced *source.Fault
	if errors.As(err, &misplaced) {
		return config.Faults{config.Fault(*misplaced)}
	}
	if err != nil {
		return err
	}
	cfg, err := config.ParseFiles(source.Main, d.Config, carried(d.Files).stat)
	var faults config.Faults
	if err != nil && !errors.As(err, &faults) {
		return err
	}
	if name := cfg.AccessPath(); name != "" {
		options := policyOptions(cfg)
		if err != nil {
			options.VNets = nil // not all of them may have been understood
		}
		if files := carried(d.Files).of(name); len(files) > 0 { // else the configuration's own fault is told
			var more config.Faults
			if _, err := parsePolicy(cfg, files, options); errors.As(err, &more) {
				faults = append(faults, more...)
			} else if err != nil {
				return err
			}
		}
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}

// carried are the files beside a document, by name.
type carried map[string][]byte

// stat is os.Stat for them. They will be files that only their owner can read.
func (c carried) stat(name string) (fs.FileInfo, error) {
	name = path.Clean(name)
	if b, ok := c[name]; ok {
		return carriedInfo{name, int64(len(b)), 0o600}, nil
	}
	for other := range c {
		if strings.HasPrefix(other, name+"/") {
			return carriedInfo{name, 0, fs.ModeDir | 0o700}, nil
		}
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

// of are the file of that name, or those of that folder that count for access.
func (c carried) of(name string) map[string][]byte {
	name = path.Clean(name)
	if b, ok := c[name]; ok {
		return map[string][]byte{path.Base(name): b}
	}
	files := map[string][]byte{}
	for _, other := range slices.Sorted(maps.Keys(c)) {
		dir, base := path.Split(other)
		counts := slices.ContainsFunc(accessFiles, func(p string) bool { ok, _ := path.Match(p, base); return ok })
		if path.Clean(dir) == name && counts {
			files[base] = c[other]
		}
	}
	return files
}

type carriedInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func (i carriedInfo) Name() string       { return path.Base(i.name) }
func (i carriedInfo) Size() int64        { return i.size }
func (i carriedInfo) Mode() fs.FileMode  { return i.mode }
func (i carriedInfo) ModTime() time.Time { return time.Time{} }
func (i carriedInfo) IsDir() bool        { return i.mode.IsDir() }
func (i carriedInfo) Sys() any           { return nil }

// checkImageDocument checks a file that is to become an image's user data, or its document by another way.
func checkImageDocument(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return unreadable(err)
	}
	defer f.Close()
	d, err := source.Read(f, file)
	if err != nil {
		return err
	}
	return checkDocument(d)
}

// keptDocument is the document that a person has given to an image that had none, on the data partition.
func keptDocument(folder string) (source.Document, error) {
	f, err := os.Open(filepath.Join(folder, keptName))
	if errors.Is(err, fs.ErrNotExist) {
		return source.Document{}, source.ErrNone
	}
	if err != nil {
		return source.Document{}, err
	}
	defer f.Close()
	return source.Read(f, "the data partition")
}

// keptName lies beside the worker's state, where the worker cannot write.
const keptName = "sallyport.yaml"

// imageDocument finds the document of an image: by a local source, from the cloud over one of the NICs, or on the data
// partition, whose folder may be empty for none. An error that is source.ErrNone means that there is none at all; another
// one names the source that has failed.
func imageDocument(ctx context.Context, nic, runDir, data string, output *os.File, log *slog.Logger) (source.Document, error) {
	d, err := source.Local("/", volumeReader(ctx, output))
	if !errors.Is(err, source.ErrNone) {
		return d, err
	}
	if cloud := metadata.Detect("/"); cloud != metadata.None {
		if nic == "" { // yet: its driver may come late, and the next source is not to be taken for that
			return source.Document{}, fmt.Errorf("user data of %s: the machine has no NIC", cloud)
		}
		log.Info("asking the cloud for user data", "cloud", cloud, "interface", nic)
		d, err := fetchDocument(ctx, cloud, nic, runDir, output, log)
		if !errors.Is(err, source.ErrNone) {
			return d, err
		}
	}
	if data == "" {
		return source.Document{}, source.ErrNone
	}
	if d, err = keptDocument(data); err != nil && !errors.Is(err, source.ErrNone) {
		err = fmt.Errorf("the data partition: %w", err)
	}
	return d, err
}
