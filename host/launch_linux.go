package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const fileLimit = 1 << 20 // descriptors of the worker: one or two a flow

// passedOn are the variables that the worker keeps; none of them can hold a secret.
var passedOn = []string{
	"PATH", "TZ", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR",
	"GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "GOCOVERDIR",
}

// A launcher starts workers from one thread that lives as long as it does: what the thread has given up its children never
// get, and the kernel kills them when the thread ends (PDEATHSIG watches the thread, not the process).
type launcher struct {
	jobs chan func()
	done chan struct{}
}

// newLauncher gives up, on the launcher's thread, what a worker must not have.
func newLauncher() (*launcher, error) {
	l := &launcher{jobs: make(chan func()), done: make(chan struct{})}
	ready := make(chan error, 1)
	go func() {
		defer close(l.done)
		runOffMain(func() { l.run(ready) })
	}()
	if err := <-ready; err != nil {
		l.close()
		return nil, fmt.Errorf("confine the worker: %w", err)
	}
	return l, nil
}

func (l *launcher) run(ready chan<- error) {
	ready <- confine()
	for job := range l.jobs {
		job()
	}
}

func (l *launcher) close() {
	close(l.jobs)
	<-l.done
}

// start starts this program once more, as another user, with files as descriptors from 3 on: the worker's end of the
// channel. What it prints goes to output, if that is not nil.
func (l *launcher) start(args []string, who account, output *os.File, files ...*os.File) (*exec.Cmd, error) {
	cmd := &exec.Cmd{
		Path:       "/proc/self/exe", // this very program, even if the file has been replaced
		Args:       args,
		Dir:        "/",
		Env:        environment(os.Environ()),
		Stdout:     os.Stdout,
		Stderr:     os.Stderr,
		ExtraFiles: files,
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:    true, // Ctrl-C is the parent's
			Pdeathsig: syscall.SIGKILL,
		},
	}
	if output != nil {
		cmd.Stdout, cmd.Stderr = output, output
	}
	if who != self() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: who.uid, Gid: who.gid} // and no groups
	}
	result := make(chan error, 1)
	l.jobs <- func() { result <- cmd.Start() }
	if err := <-result; err != nil {
		return nil, fmt.Errorf("start worker: %w", err)
	}
	return cmd, nil
}

func environment(all []string) []string {
	return slices.DeleteFunc(all, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !slices.Contains(passedOn, name)
	})
}

// confine changes the thread so that its children can never gain a capability. They lose those that it keeps, which it
// needs to become another user, when they become that user.
func confine() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	for c := uintptr(0); ; c++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
			break // there are no more; or a container withholds CAP_SETPCAP, and no_new_privs must do
		}
		if err != nil {
			return fmt.Errorf("bounding set: %w", err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("inheritable capabilities: %w", err)
	}
	return nil
}

// setLimits sets what the worker inherits: many descriptors, as far as we may, and no core file with keys in it.
func setLimits() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("core limit: %w", err)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("file limit: %w", err)
	}
	if want := uint64(fileLimit); files.Max < want {
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: want, Max: want}) == nil {
			return nil
		}
	}
	files.Cur = files.Max
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &files)
}
