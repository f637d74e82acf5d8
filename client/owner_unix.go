//go:build unix

package client

import "io/fs"

// openToOthers says that somebody but the owner may read or write a file.
func openToOthers(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }
