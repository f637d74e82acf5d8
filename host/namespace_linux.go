package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

const (
	defaultRunDir = "/run/sallyport"
	ownNamespace  = "/proc/thread-self/ns/net"
)

// namespacePath is where a VNet's namespace is bound.
func namespacePath(runDir, vnet string) string { return filepath.Join(runDir, "netns", vnet) }

// ensureNamespace makes the namespace unless it is there.
func ensureNamespace(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err == nil && st.Type == unix.NSFS_MAGIC {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		if err := unix.Mount(ownNamespace, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind namespace to %s: %w", path, err)
		}
		return nil
	})
}

// inNamespace runs f on a thread in the namespace.
func inNamespace(path string, f func() error) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	return onThread(func() error {
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", path, err)
		}
		return f()
	})
}

// onThread runs f on a thread that ends with it, so that f may change what belongs to a thread: its namespace, its
// capabilities.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() { runOffMain(func() { done <- f() }) }()
	return <-done
}

// runOffMain locks the goroutine to its thread and never unlocks it, so that Go ends the thread with the goroutine. The
// process's first thread cannot end, and is what /proc shows for the process: f runs on another one.
func runOffMain(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runOffMain(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

// sysctl writes a setting of the thread's network namespace. A kernel without IPv6 has no IPv6 to turn off.
func sysctl(name, value string) error {
	err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Stat("/proc/sys/net/ipv6"); errors.Is(e, fs.ErrNotExist) {
			return nil
		}
	}
	return err
}
