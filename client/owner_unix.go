//go:build unix

package client

import "io/fs"

// openToOthers says that somebody but the owner may read or write a file.
func openToOthers(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }

// changeableByOthers says that somebody but the owner may put files into a folder and take them away.
func changeableByOthers(info fs.FileInfo) bool { return info.Mode().Perm()&0o022 != 0 }
