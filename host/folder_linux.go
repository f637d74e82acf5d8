package host

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// maxEntries bounds a folder: names that do not count are looked at too.
const maxEntries = 10_000

// A version tells two states of a path apart: by the file's stamp, or for a folder by those of the files that count.
type version []entry

type entry struct {
	name  string // in the folder
	stamp stamp
}

func versionOf(path string, patterns []string) (v version, folder bool, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return version{{"", stampOf(&st)}}, false, nil
	}
	names, err := filesIn(path, patterns)
	if err != nil {
		return nil, true, err
	}
	for _, name := range names {
		if err := unix.Stat(filepath.Join(path, name), &st); err != nil {
			return nil, true, err
		}
		v = append(v, entry{name, stampOf(&st)})
	}
	return v, true, nil
}

// filesIn are the names in a folder that count, sorted.
func filesIn(path string, patterns []string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries + 1)
	if len(names) > maxEntries {
		return nil, fmt.Errorf("%s has more than %d entries: %w", path, maxEntries, unix.EFBIG)
	}
	if err != nil && len(names) > 0 {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return name[0] == '.' || !slices.ContainsFunc(patterns, func(p string) bool { ok, _ := filepath.Match(p, name); return ok })
	})
	slices.Sort(names)
	return names, nil
}

// readFolder reads the files that count, by name, as the worker takes them apart.
func readFolder(path string, patterns []string) (content []byte, v version, err error) {
	names, err := filesIn(path, patterns)
	if err != nil {
		return nil, nil, err
	}
	files, size := map[string][]byte{}, 0
	for _, name := range names {
		b, s, err := readFile(filepath.Join(path, name))
		if err != nil {
			return nil, nil, err
		}
		if size += len(b); size > maxFile/2 { // JSON makes it longer
			return nil, nil, unix.EFBIG
		}
		files[name] = b
		v = append(v, entry{name, s})
	}
	content, err = json.Marshal(files)
	return content, v, err
}

// changing says whether a folder is not what was read of it any more, or was touched a moment ago: somebody who replaces
// several files, one after the other, may be at work.
func changing(path string, patterns []string, read version) bool {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return true
	}
	now, _, err := versionOf(path, patterns)
	return err != nil || !slices.Equal(now, read) || append(slices.Clone(now), entry{stamp: stampOf(&st)}).unsettled()
}

// ReadFiles reads a file, under the last part of its path, or the files of a folder that match one of the patterns.
func ReadFiles(path string, patterns []string) (map[string][]byte, error) {
	_, folder, err := versionOf(path, patterns)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if !folder {
		b, _, err := readFile(path)
		return map[string][]byte{filepath.Base(path): b}, err
	}
	content, _, err := readFolder(path, patterns)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	return files, json.Unmarshal(content, &files)
}
