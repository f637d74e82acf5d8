package host

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestSeccomp: the filter is in force in each of the worker's threads. What only an intruder would call ends the worker,
// and what it has no use for fails.
func TestSeccomp(t *testing.T) {
	r := start(t, Plan{})
	pid := r.pid()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(threads) < 2 {
		t.Fatal(threads, err)
	}
	for _, path := range threads {
		if status := read(t, "%s", path); !strings.Contains(status, "Seccomp:\t2\n") {
			t.Errorf("%s:\n%s", path, status)
		}
	}
	for _, call := range []string{"fork", "thread", "code", "packet", "vsock", "kill", "dump", "setuid", "tiocsti", "clock"} {
		r.want("error: operation not permitted", "call %s", call)
	}
	for _, call := range []string{"x32", "clone3"} {
		r.want("error: function not implemented", "call %s", call)
	}
	if now := r.pid(); now != pid {
		t.Errorf("worker %d was replaced by %d", pid, now)
	}
	for _, call := range []string{"execve", "mount", "unshare", "bpf", "io_uring", "keyctl", "ptrace", "module", "handle"} {
		t.Run(call, func(t *testing.T) {
			r := start(t, Plan{})
			pid := r.pid()
			if got := r.ask("call %s", call); !strings.HasPrefix(got, "cut:") {
				t.Error(got)
			}
			if r.pid() == pid {
				t.Error("the worker lives")
			}
			r.logs("a system call that no worker makes")
		})
	}
}
