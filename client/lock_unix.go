//go:build unix

package client

import (
	"os"

	"golang.org/x/sys/unix"
)

// tryLock locks a file against other processes until it is closed; nil and no error mean that another has it. The end
// of a process, however it comes, unlocks.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if err == unix.EWOULDBLOCK {
		return nil, nil
	}
	return nil, err
}
