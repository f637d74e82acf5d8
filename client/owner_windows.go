package client

import "io/fs"

// openToOthers is false: the profile folder's access list keeps other people out, and a file's mode says nothing here.
func openToOthers(fs.FileInfo) bool { return false }

// changeableByOthers is false for the same reason.
func changeableByOthers(fs.FileInfo) bool { return false }
