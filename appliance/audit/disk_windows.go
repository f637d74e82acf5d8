package audit

import (
	"os"

	"golang.org/x/sys/windows"
)

// syncFolder has nothing to do: NTFS journals a rename itself.
func syncFolder(string) error { return nil }

// lock takes an exclusive lock on f, which ends with the process.
func lock(f *os.File) error {
	return windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, new(windows.Overlapped))
}
