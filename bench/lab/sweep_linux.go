package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	namePrefix = "spb-"                 // begins the name of everything that a lab makes: spb-PID…
	runRoot    = "/run/sallyport-bench" // holds one folder a lab
)

// sweep removes what runs that are dead have left.
func sweep() error {
	var errs []error
	for _, id := range leftovers() {
		errs = append(errs, removeAll(id))
	}
	return errors.Join(errs...)
}

// leftovers are the ids of labs whose process is dead.
func leftovers() []string {
	var ids []string
	for _, root := range []string{netnsRoot, runRoot} {
		entries, _ := os.ReadDir(root) // a root that is not there holds nothing
		for _, e := range entries {
			parts := strings.SplitN(e.Name(), "-", 3)
			if len(parts) < 2 || parts[0]+"-" != namePrefix {
				continue
			}
			pid, err := strconv.Atoi(parts[1])
			if err == nil && pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
				ids = append(ids, namePrefix+parts[1])
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// removeAll takes a lab down: first its processes, so that nothing is busy.
func removeAll(id string) error {
	spaces, _ := filepath.Glob(filepath.Join(netnsRoot, id+"-*"))
	errs := []error{killInside(spaces)}
	for _, s := range spaces {
		errs = append(errs, ip([]string{"netns del " + filepath.Base(s)}))
	}
	dir := filepath.Join(runRoot, id)
	errs = append(errs, unmountBelow(dir), os.RemoveAll(dir))
	os.Remove(runRoot) // unless another run has its folder there
	return errors.Join(errs...)
}

// killInside ends every process that is in one of the namespaces, and waits until it is gone.
func killInside(spaces []string) error {
	inside := map[inode]bool{}
	for _, s := range spaces {
		var st unix.Stat_t
		if err := unix.Stat(s, &st); err == nil {
			inside[inode{st.Dev, st.Ino}] = true
		}
	}
	for deadline := time.Now().Add(5 * time.Second); len(inside) > 0; time.Sleep(5 * time.Millisecond) {
		pids := processesIn(inside)
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end; kill them by hand", pids)
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	return nil
}

// An inode tells namespaces apart.
type inode struct{ device, number uint64 }

// processesIn lists the processes, other than this one, whose network namespace is one of these.
func processesIn(spaces map[inode]bool) []int {
	var pids []int
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, link := range links {
		pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
		var st unix.Stat_t
		if pid == os.Getpid() || unix.Stat(link, &st) != nil {
			continue // a zombie has no namespace any more
		}
		if spaces[inode{st.Dev, st.Ino}] {
			pids = append(pids, pid)
		}
	}
	return pids
}

// unmountBelow unmounts what is mounted in a folder, the innermost first: the namespaces that sallyportd keeps NICs in.
func unmountBelow(dir string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	var points []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	var errs []error
	for _, p := range slices.Backward(points) {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", p, err))
		}
	}
	return errors.Join(errs...)
}
