//go:build unix

package client

import (
	"fmt"
	"os"
	"syscall"
)

// checkFolder makes sure that a folder is this user's and nobody else's.
func checkFolder(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Getuid() || openToOthers(info) {
		return fmt.Errorf("%s is not a folder of this user's alone", dir)
	}
	return nil
}
