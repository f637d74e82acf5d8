package config

import (
	"errors"
	"io/fs"
	"path/filepath"
)

func (c *checker) checkState() {
	if c.Has("state") && c.Text("state") == "" {
		c.Fault(c.At("state"), "", "state is empty")
	}
	c.State = c.join(c.State)
	if c.State == "/" {
		c.Fault(c.At("state"), "such as "+defaultState, "state must be a folder of its own")
	}
}

func (c *checker) join(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(c.folder, path)
}

// accessPath is where the access files are: in the database, or at a path.
func (c *checker) accessPath() {
	switch {
	case c.Access != InDatabase:
		if c.Has("access_seed") {
			c.Fault(c.KeyAt("access_seed"), "set access: database, or leave it out", "access_seed is what a database begins with, and the access files are not in one")
		}
		c.fileOrFolder(&c.Access, "access")
	case c.Has("access_seed"):
		c.fileOrFolder(&c.Seed, "access_seed")
	}
}

// fileOrFolder is a file's path, or that of a folder of such files.
func (c *checker) fileOrFolder(path *string, key string) {
	if c.stat != nil && *path != "" {
		if info, err := c.stat(c.join(*path)); err == nil && info.Mode().IsDir() {
			*path = c.join(*path)
			return
		}
	}
	c.path(path, false, key)
}

// path joins a file's path with the folder and wants the file to be there; a secret one for its owner only.
func (c *checker) path(path *string, secret bool, steps ...any) {
	at := c.At(steps...)
	if c.Has(steps...) && c.Text(steps...) == "" {
		c.Fault(at, "", "%s is empty", dotted(steps))
		return
	}
	*path = c.join(*path)
	if c.stat == nil {
		return
	}
	info, err := c.stat(*path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.Fault(at, "", "there is no file %s", *path)
	case err != nil:
		c.Fault(at, "", "%v", err)
	case !info.Mode().IsRegular():
		c.Fault(at, "", "%s is not a file", *path)
	case secret && info.Mode().Perm()&0o077 != 0:
		c.Fault(at, "chmod 600 "+*path, "%s can be read by others (mode %#o)", *path, info.Mode().Perm())
	}
}
