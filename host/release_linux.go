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

// Release gives a VNet's NIC back to the caller's namespace, down and without addresses, and removes the VNet's own. It
// refuses while a parent runs with the same directory. An empty runDir means /run/sallyport.
func Release(runDir, vnet string) error {
	runDir = cmp.Or(runDir, defaultRunDir)
	if !validName.MatchString(vnet) {
		return fmt.Errorf("release: bad VNet name %q", vnet)
	}
	path := namespacePath(runDir, vnet)
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("release %s: %w", vnet, err)
	}
	lock, err := lockRunDir(runDir)
	if err != nil {
		return fmt.Errorf("release %s: %w", vnet, err)
	}
	defer lock.Close()
	if err := moveOut(path); err != nil {
		return fmt.Errorf("release %s: %w", vnet, err)
	}
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: not mounted
		return fmt.Errorf("release %s: unmount: %w", vnet, err)
	}
	return os.Remove(path)
}

// moveOut moves the NICs of a namespace into the caller's.
func moveOut(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil || st.Type != unix.NSFS_MAGIC {
		return err // a file that was never bound holds nothing
	}
	home, err := unix.Open(ownNamespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(home)
	return inNamespace(path, func() error {
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
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("sallyportd is running")
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}
