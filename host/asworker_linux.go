package host

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// AsWorker makes the state directory as a start does, and calls f with the rights of the worker's user: for commands of
// root's that touch what lies there. The worker owns it, and could have put a link in the place of a file. Who is not root
// keeps the rights they have.
func AsWorker(state, runAs string, f func() error) (err error) {
	if os.Geteuid() != 0 {
		if err := os.MkdirAll(state, 0o700); err != nil {
			return fmt.Errorf("state directory: %w", err)
		}
		return f()
	}
	owner, err := lookupAccount(runAs)
	if err != nil {
		return err
	}
	if err := makeState(state, owner); err != nil {
		return err
	}
	groups, err := syscall.Getgroups()
	if err != nil {
		return err
	}
	// Of all threads: package syscall sees to that, x/sys/unix does not.
	defer func() {
		err = errors.Join(err, syscall.Setresuid(-1, 0, -1), syscall.Setresgid(-1, 0, -1), syscall.Setgroups(groups))
	}()
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(-1, int(owner.gid), -1), syscall.Setresuid(-1, int(owner.uid), -1)); err != nil {
		return fmt.Errorf("become %d: %w", owner.uid, err)
	}
	return f()
}
