package release

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"compress/gzip"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// An entry is a file in an archive. Folders come of themselves.
type entry struct {
	name string // with slashes, without one in front
	mode fs.FileMode
	data []byte
}

// file is an entry that everybody may read.
func file(name string, data []byte) entry { return entry{name, 0o644, data} }

// withFolders is entries in order, each folder before what is in it.
func withFolders(entries []entry) []entry {
	all := slices.Clone(entries)
	seen := map[string]bool{".": true}
	for _, e := range entries {
		for dir := path.Dir(e.name); !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
			all = append(all, entry{name: dir, mode: fs.ModeDir | 0o755})
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	return all
}

// tarGz is an archive of entries. prefix stands before each name, as "./" does in Debian packages.
func tarGz(prefix string, entries []entry, modified time.Time) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	t := tar.NewWriter(z)
	for _, e := range entries {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: prefix + e.name, Mode: int64(e.mode.Perm()), Size: int64(len(e.data)),
			ModTime: modified, Uname: "root", Gname: "root", Format: tar.FormatGNU, // which dpkg reads
		}
		if e.mode.IsDir() {
			h.Typeflag, h.Name = tar.TypeDir, strings.TrimSuffix(h.Name, "/")+"/"
		}
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := t.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// zipped is what tarGz is, for Windows, which opens no other kind by itself.
func zipped(prefix string, entries []entry, modified time.Time) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: prefix + e.name, Method: zip.Deflate, Modified: modified}
		h.SetMode(e.mode)
		if e.mode.IsDir() {
			h.Name, h.Method = h.Name+"/", zip.Store
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// gzipped is a file as Debian packages have their man pages: without a name and a time.
func gzipped(data []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(z, bytes.NewReader(data)); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
