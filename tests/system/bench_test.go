package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/bench"
	"sallyport/tests/lab"
)

// benchRun starts sallyport-bench lab with the programs under test.
func benchRun(t *testing.T, args ...string) (*lab.Process, string) {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin+"/sallyport-bench", append([]string{"lab"}, args...)...)
	return lab.Start(t, cmd), bin
}

// TestBenchQuick measures as a person would, by goals that only a collapse misses.
func TestBenchQuick(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	begin := time.Now()
	p, bin := benchRun(t, "--quick", "--json", file)
	err := p.Wait()
	t.Logf("%v\n%s", time.Since(begin), p.Output())
	if err != nil {
		t.Errorf("it ended with %v", err)
	}
	lines := strings.Split(strings.TrimSpace(p.Output()), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "PASS: goals: ") || strings.Contains(last, "not measured") {
		t.Errorf("the last line is %q", last)
	}
	var report bench.Report
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &report)
	}
	if err != nil || len(report.Samples) == 0 || len(report.Omissions) > 0 {
		t.Errorf("the report has %d samples and lacks %v: %v", len(report.Samples), report.Omissions, err)
	}
	nothingLeft(t, p.Process.Pid, bin)
}

// TestBenchInterrupted: Ctrl-C in the middle leaves nothing behind, and what kill -9 leaves the next run removes.
func TestBenchInterrupted(t *testing.T) {
	before := sysctls()
	args := []string{"--only", "sallyport-*", "--only", "nginx-tls", "--only", "ssh-L", "--idle", "50"}
	file := filepath.Join(t.TempDir(), "part.json")
	p, bin := benchRun(t, append(args, "--json", file)...)
	measuring(t, p)
	p.Process.Signal(syscall.SIGINT)
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
	var exit *exec.ExitError
	if err := p.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(p.Output(), "interrupted") {
		t.Errorf("it ended with %v\n%s", err, p.Output())
	}
	nothingLeft(t, p.Process.Pid, bin)
	var part bench.Report
	if b, err := os.ReadFile(file); err != nil || json.Unmarshal(b, &part) != nil || len(part.Samples) == 0 || part.Judgement != nil ||
		!strings.HasPrefix(part.Settings[len(part.Settings)-1], "Interrupted in round 1 of 5") {
		t.Errorf("what was measured until then: %+v, %v", part, err)
	}

	killed, bin := benchRun(t, args...)
	measuring(t, killed)
	killed.Process.Kill()
	killed.Wait()
	next, _ := benchRun(t, "--rounds", "1", "--only", "direct", "--only", "open-warm")
	if err := next.Wait(); err != nil {
		t.Errorf("the next run: %v\n%s", err, next.Output())
	}
	nothingLeft(t, killed.Process.Pid, bin)
	nothingLeft(t, next.Process.Pid, bin)
	for name, value := range sysctls() {
		if before[name] != value {
			t.Errorf("%s was %q and is %q", name, before[name], value)
		}
	}
}

// measuring waits until the first figures are there.
func measuring(t *testing.T, p *lab.Process) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(p.Output(), " KiB/flow"); time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.Done():
			t.Fatalf("it ended: %s", p.Output())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not measure: %s", p.Output())
		}
	}
}

// nothingLeft looks for namespaces, files, mounts and processes of a run.
func nothingLeft(t *testing.T, pid int, bin string) {
	t.Helper()
	id := fmt.Sprintf("spb-%d", pid)
	for _, pattern := range []string{"/run/netns/" + id + "-*", "/run/sallyport-bench/" + id} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(mounts, []byte(id)) {
		t.Errorf("mounts are left, or %v", err)
	}
	commands, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range commands {
		line, _ := os.ReadFile(path)
		if bytes.Contains(line, []byte(id)) || bytes.Contains(line, []byte(bin+"/")) {
			t.Errorf("left: %s %q", filepath.Dir(path), line)
		}
	}
}

// sysctls are those of the machine's network, without those of single NICs, which come and go.
func sysctls() map[string]string {
	all := map[string]string{}
	filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
		if err != nil || strings.Contains(path, "/conf/") || strings.Contains(path, "/neigh/") {
			return nil
		}
		if b, err := os.ReadFile(path); err == nil {
			all[path] = string(b)
		}
		return nil
	})
	return all
}
