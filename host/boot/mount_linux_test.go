package boot

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMemory: the folder has limits and flags of its own, and is mounted once.
func TestMemory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	at := filepath.Join(t.TempDir(), "run", "state")
	for range 2 {
		if err := Memory(at); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
	var s, above unix.Statfs_t
	if err := unix.Statfs(at, &s); err != nil {
		t.Fatal(err)
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if s.Type != unix.TMPFS_MAGIC || s.Files != 8192 || s.Flags&flags != flags || s.Blocks == 0 {
		t.Errorf("%+v", s)
	}
	if err := unix.Statfs(filepath.Dir(at), &above); err != nil || above.Fsid == s.Fsid {
		t.Errorf("the folder above is the same file system: %v", err)
	}
	if st, err := os.Stat(at); err != nil || st.Mode() != os.ModeDir|0o700 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	if err := unix.Unmount(at, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(at); err != nil {
		t.Errorf("it was mounted twice: %v", err)
	}
}
