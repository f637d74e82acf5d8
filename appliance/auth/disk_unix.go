//go:build unix

package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// syncFolder makes a rename in the folder survive the loss of power.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkSecret wants a file that only its owner can read.
func checkSecret(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s can be read by others (mode %#o): %w; take it as known to them, or run chmod 600 on it",
			path, info.Mode().Perm(), fs.ErrPermission)
	}
	return nil
}
