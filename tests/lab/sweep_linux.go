package lab

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const namePrefix = "sp-" // begins the name of everything that a lab makes: sp-PID-N…

// Sweep removes what labs of processes that no longer run have left: processes in their namespaces, the namespaces with
// their links, mounts and files in their run directories, and users. New calls it once a process.
func Sweep() error {
	var errs []error
	for _, id := range leftovers() {
		errs = append(errs, removeLab(id)...)
	}
	return errors.Join(errs...)
}

// leftovers are the ids of labs whose process is dead.
func leftovers() []string {
	var ids []string
	for _, root := range []string{netnsRoot, runRoot} {
		entries, _ := os.ReadDir(root) // a root that is not there holds nothing
		for _, e := range entries {
			ids = appendStale(ids, e.Name())
		}
	}
	for _, u := range users() {
		ids = appendStale(ids, u)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// appendStale adds the lab that a name belongs to if its process is dead.
func appendStale(ids []string, name string) []string {
	parts := strings.SplitN(name, "-", 4)
	if len(parts) < 3 || parts[0]+"-" != namePrefix {
		return ids
	}
	pid, err := strconv.Atoi(parts[1])
	if err != nil || pid <= 0 || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return ids
	}
	return append(ids, strings.Join(parts[:3], "-"))
}

// removeLab takes a lab down: first its processes, so that nothing is busy.
func removeLab(id string) []error {
	var errs []error
	spaces, _ := filepath.Glob(filepath.Join(netnsRoot, id+"-*"))
	errs = append(errs, killInside(spaces))
	for _, s := range spaces {
		errs = append(errs, ip([]string{"netns del " + filepath.Base(s)}))
	}
	dir := filepath.Join(runRoot, id)
	errs = append(errs, unmountBelow(dir), os.RemoveAll(dir))
	for _, u := range users() {
		if strings.HasPrefix(u, id+"-") {
			errs = append(errs, removeUser(u))
		}
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// killInside ends every process that is in one of the namespaces, and waits until it is gone.
func killInside(spaces []string) error {
	inside := map[uint64]bool{}
	for _, s := range spaces {
		var st unix.Stat_t
		if err := unix.Stat(s, &st); err == nil {
			inside[st.Ino] = true
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for len(inside) > 0 {
		pids := processesIn(inside)
		if len(pids) == 0 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end", pids)
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

// processesIn lists the processes, other than this one, whose network namespace is one of the inodes.
func processesIn(inodes map[uint64]bool) []int {
	var pids []int
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	for _, link := range links {
		pid, _ := strconv.Atoi(strings.Split(link, "/")[2])
		var st unix.Stat_t
		if pid == os.Getpid() || unix.Stat(link, &st) != nil {
			continue // a zombie has no namespace any more
		}
		if inodes[st.Ino] {
			pids = append(pids, pid)
		}
	}
	return pids
}

// unmountBelow unmounts what is mounted in a directory, the innermost first.
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

// users are the names in the password file that a lab has made.
func users() []string {
	b, _ := os.ReadFile("/etc/passwd")
	var names []string
	for line := range strings.Lines(string(b)) {
		if name, _, _ := strings.Cut(line, ":"); strings.HasPrefix(name, namePrefix) {
			names = append(names, name)
		}
	}
	return names
}

func removeUser(name string) error {
	if out, err := exec.Command("userdel", "--force", name).CombinedOutput(); err != nil {
		return fmt.Errorf("userdel %s: %w: %s", name, err, out)
	}
	return nil
}
