package host

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What Release and Run may be refused for.
var (
	ErrRunning = errors.New("sallyportd is running") // with the same directory
	ErrName    = errors.New("that cannot be the name of a VNet")
)

// Release gives a VNet's NIC back to the caller's namespace, down and without addresses, and removes the VNet's own. It
// refuses while a parent runs with the same directory. An empty runDir means /run/sallyport.
func Release(runDir, vnet string) error {
	runDir = cmp.Or(runDir, defaultRunDir)
	if !validName.MatchString(vnet) {
		return fmt.Errorf("release %q: %w", vnet, ErrName)
	}
	if err := release(runDir, vnet); err != nil {
		return fmt.Errorf("release %s: %w", vnet, err)
	}
	return nil
}

func release(runDir, vnet string) error {
	folder, err := openFolder(filepath.Dir(namespacePath(runDir, vnet)), false)
	if err != nil {
		return err
	}
	defer folder.Close()
	lock, err := lockRunDir(runDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	ns, bound, err := openNamespace(folder, vnet, false)
	if err != nil {
		return err
	}
	defer ns.Close()
	if bound {
		if err := moveOut(ns); err != nil {
			return err
		}
		if err := unix.Unmount(byDescriptor(ns), unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount: %w", err)
		}
	}
	if err := unix.Unlinkat(int(folder.Fd()), vnet, 0); err != nil {
		return fmt.Errorf("remove %s: %w", namespacePath(runDir, vnet), err)
	}
	return nil
}

// moveOut moves the NICs of a namespace into the caller's.
func moveOut(ns *os.File) error {
	home, err := unix.Open(ownNamespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	return within(ns, func() error {
		names, err := nics()
		if err != nil {
			return err
		}
		for _, name := range names {
			link, err := netlink.LinkByName(name)
			if err == nil {
				err = netlink.LinkSetNsFd(link, home)
			}
			if err != nil {
				return fmt.Errorf("move %s: %w", name, err)
			}
		}
		return nil
	})
}

// lockRunDir makes sure that one process at a time uses the directory. The lock ends with the file.
func lockRunDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	folder, err := openClosed(unix.AT_FDCWD, dir)
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	fd, err := unix.Openat(int(folder.Fd()), "lock", unix.O_CREAT|unix.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	f := os.NewFile(uintptr(fd), "lock")
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrRunning
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}
