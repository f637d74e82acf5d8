package host

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestRootActsAsTheWorker(t *testing.T) {
	top := t.TempDir()
	if err := os.Chmod(top, 0o711); err != nil { // and what is above it
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(top), 0o711); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(top, "state")
	err := AsWorker(state, "65534:65534", func() error {
		if os.Geteuid() != 65534 || os.Getegid() != 65534 {
			t.Errorf("acts as %d:%d", os.Geteuid(), os.Getegid())
		}
		if groups, err := os.Getgroups(); len(groups) != 0 || err != nil {
			t.Errorf("with the groups %v, %v", groups, err)
		}
		if _, err := os.ReadFile("/etc/shadow"); !os.IsPermission(err) {
			t.Errorf("reads what is root's: %v", err)
		}
		return os.WriteFile(filepath.Join(state, "file"), nil, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 || os.Getegid() != 0 {
		t.Fatalf("stays %d:%d", os.Geteuid(), os.Getegid())
	}
	for _, path := range []string{state, filepath.Join(state, "file")} {
		info, err := os.Stat(path)
		if err != nil || info.Sys().(*syscall.Stat_t).Uid != 65534 {
			t.Errorf("%s: %+v, %v", path, info, err)
		}
	}
	if err := AsWorker(state, "root", func() error { return nil }); err == nil {
		t.Error("the worker may be root")
	}
}
