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

// The folder of the namespaces, and RunDir above it, may belong to the worker's user, while it is root or a process with
// capabilities that works in them. So from RunDir on no link is followed, and nothing is used by a name that was checked
// before: what has been checked is held open, and used by its descriptor.

// openFolder opens the folder of the namespaces; create makes it unless it is there.
func openFolder(path string, create bool) (*os.File, error) {
	runDir, err := openClosed(unix.AT_FDCWD, filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer runDir.Close()
	name := filepath.Base(path)
	if create {
		if err := unix.Mkdirat(int(runDir.Fd()), name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("folder %s: %w", path, err)
		}
	}
	return openClosed(int(runDir.Fd()), name)
}

// openClosed opens a folder that is not a link and that nobody but its owner can write to.
func openClosed(at int, name string) (*os.File, error) {
	fd, err := unix.Openat(at, filepath.Clean(name), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("folder %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&0o022 != 0 {
		err = fmt.Errorf("others than its owner can write to it (mode %04o)", st.Mode&0o7777)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("folder %s: %w", name, err)
	}
	return f, nil
}

// openNamespace opens a namespace, or, bound being false, the empty file that it is going to be bound to.
func openNamespace(folder *os.File, name string, create bool) (f *os.File, bound bool, err error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	fd, err := unix.Openat(int(folder.Fd()), name, flags, 0)
	if create && errors.Is(err, unix.ENOENT) {
		fd, err = unix.Openat(int(folder.Fd()), name, flags|unix.O_CREAT|unix.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, false, fmt.Errorf("namespace %s: %w", name, err)
	}
	f = os.NewFile(uintptr(fd), name)
	var on unix.Statfs_t
	var st unix.Stat_t
	if err = errors.Join(unix.Fstatfs(fd, &on), unix.Fstat(fd, &st)); err == nil {
		bound = on.Type == unix.NSFS_MAGIC
		if !bound && (st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > 0) {
			err = errors.New("neither a namespace nor an empty file")
		}
	}
	if err != nil {
		f.Close()
		return nil, false, fmt.Errorf("namespace %s: %w", name, err)
	}
	return f, bound, nil
}

// byDescriptor is a path that means what f has open, whatever its name means by now.
func byDescriptor(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// ensureNamespace makes the namespace unless it is there.
func ensureNamespace(path string) error {
	if err := os.MkdirAll(filepath.Dir(filepath.Dir(path)), 0o755); err != nil {
		return err
	}
	folder, err := openFolder(filepath.Dir(path), true)
	if err != nil {
		return err
	}
	defer folder.Close()
	f, bound, err := openNamespace(folder, filepath.Base(path), true)
	if err != nil {
		return err
	}
	defer f.Close()
	if bound {
		return nil
	}
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		if err := unix.Mount(ownNamespace, byDescriptor(f), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind namespace to %s: %w", path, err)
		}
		return nil
	})
}

// namespaceAt opens a namespace that has been made.
func namespaceAt(path string) (*os.File, error) {
	folder, err := openFolder(filepath.Dir(path), false)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	f, bound, err := openNamespace(folder, filepath.Base(path), false)
	if err == nil && !bound {
		f.Close()
		return nil, fmt.Errorf("namespace %s: never bound", path)
	}
	return f, err
}

// inNamespace runs f on a thread in the namespace.
func inNamespace(path string, f func() error) error {
	ns, err := namespaceAt(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	return within(ns, f)
}

// within runs f on a thread in the namespace.
func within(ns *os.File, f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", ns.Name(), err)
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
