//go:build unix

package audit

import (
	"bufio"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestKilled kills a process that writes, 200 times at random moments. Each event that it has said was taken is in the
// log, the chain is whole, and the log goes on.
func TestKilled(t *testing.T) {
	kills, perLog := 200, 10
	if testing.Short() {
		kills = 20
	}
	all, tornLines := 0, 0
	for kills > 0 {
		dir := t.TempDir()
		taken := map[string]bool{}
		for n := range perLog {
			for _, id := range writeAndKill(t, dir, n) {
				taken[id] = true
			}
			kills--
			wantTaken(t, dir, taken)
			if n%2 == 1 { // else it is the next process that goes on
				closeLog(t, open(t, Config{Dir: dir}))
				verify(t, dir)
			}
			if t.Failed() {
				t.FailNow()
			}
		}
		closeLog(t, open(t, Config{Dir: dir}))
		verify(t, dir)
		wantTaken(t, dir, taken)
		all += len(taken)
		tornLines += len(ofKind(events(t, dir), Torn))
	}
	t.Logf("%d events were taken, all are there; %d torn lines were cut off", all, tornLines)
}

// writeAndKill returns the events that the process has said were taken.
func writeAndKill(t *testing.T, dir string, n int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if n%4 == 3 { // perhaps while it opens the log
		time.Sleep(rand.N(100 * time.Millisecond))
	} else if lines.Scan() {
		time.AfterFunc(rand.N(15*time.Millisecond), func() { cmd.Process.Kill() })
	}
	var taken []string
	if lines.Text() != "" {
		taken = append(taken, lines.Text())
	} else {
		cmd.Process.Kill()
	}
	for lines.Scan() {
		taken = append(taken, lines.Text())
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Errorf("the process was not killed: %v; it said %q", err, taken)
	}
	return taken
}

// wantTaken reads the log as it is.
func wantTaken(t *testing.T, dir string, taken map[string]bool) {
	t.Helper()
	there := map[string]bool{}
	if len(taken) > 0 {
		for _, e := range events(t, dir) {
			there[e.Object] = true
		}
	}
	for id := range taken {
		if !there[id] {
			t.Errorf("event %s was taken and is not there", id)
		}
	}
}
