package system

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// worker is the pid of the daemon's worker.
func (b *bastion) worker() int {
	b.t.Helper()
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range found {
		line, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		args := bytes.Split(line, []byte{0})
		if len(args) > 3 && string(args[1]) == "worker" && string(args[3]) == filepath.Join(b.dir, "sallyport.yaml") {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err == nil {
				return pid
			}
		}
	}
	b.t.Fatal("there is no worker")
	return 0
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(fmt.Errorf("kill %d: %w", pid, err))
	}
}
