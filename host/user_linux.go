package host

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// An account is whom the worker runs as.
type account struct{ uid, gid uint32 }

// nobody is what the name means where there is no password file, as in an image of one program.
var nobody = account{65534, 65534}

// stranger is whom errands and lessees run as: they hear strangers first, and the state belongs to the worker's user. It
// is nobody else's number.
var stranger = account{65533, 65533}

// strangerName is the stranger as a Plan names it. Without root there is only one user.
func strangerName() string {
	if os.Geteuid() != 0 {
		return ""
	}
	return fmt.Sprintf("%d:%d", stranger.uid, stranger.gid)
}

// lookupAccount finds the worker's user. It is never root.
func lookupAccount(name string) (account, error) {
	a, err := findAccount(name)
	switch {
	case err != nil:
	case a.uid == 0 || a.gid == 0:
		err = errors.New("the worker must not be root")
	case os.Geteuid() != 0 && a != self():
		err = errors.New("only root can start a worker as somebody else")
	}
	if err != nil {
		return account{}, fmt.Errorf("run as %q: %w", name, err)
	}
	return a, nil
}

// self is whom the parent runs as.
func self() account { return account{uint32(os.Geteuid()), uint32(os.Getegid())} }

func findAccount(name string) (account, error) {
	if name == "" && os.Geteuid() != 0 {
		return self(), nil
	}
	if name == "" {
		for _, name := range []string{"sallyport", "nobody"} {
			if a, err := findAccount(name); err == nil {
				return a, nil
			}
		}
		return nobody, nil
	}
	uid, gid, numeric := strings.Cut(name, ":")
	if !numeric {
		u, err := user.Lookup(name)
		if err != nil {
			return account{}, err
		}
		uid, gid = u.Uid, u.Gid
	}
	u, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return account{}, err
	}
	g, err := strconv.ParseUint(gid, 10, 32)
	return account{uint32(u), uint32(g)}, err
}

// makeState makes the worker's directory. It goes by descriptor, so that a link put in its place is not followed.
func makeState(path string, owner account) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("state directory %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Fchown(fd, int(owner.uid), int(owner.gid)); err != nil {
		return fmt.Errorf("state directory %s: %w", path, err)
	}
	if err := unix.Fchmod(fd, 0o700); err != nil {
		return fmt.Errorf("state directory %s: %w", path, err)
	}
	return nil
}
