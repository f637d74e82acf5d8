package system

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestService starts the daemon as its service unit does: as a user of its own with the unit's capabilities and no
// others. The worker, which is the same user, has none and cannot get at the parent.
func TestService(t *testing.T) {
	unit := readFile(t, filepath.Join("..", "..", "docs", "sallyportd.service"))
	found := regexp.MustCompile(`(?m)^AmbientCapabilities=(.*)$`).FindStringSubmatch(unit)
	if found == nil {
		t.Fatal("the unit names no ambient capabilities")
	}
	const user = 64999
	capabilities := "-all"
	for _, c := range strings.Fields(found[1]) {
		capabilities += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	b := start(t, settings{
		wrap: []string{"setpriv", fmt.Sprintf("--reuid=%d", user), fmt.Sprintf("--regid=%d", user), "--clear-groups",
			"--inh-caps=" + capabilities, "--ambient-caps=" + capabilities, "--bounding-set=" + capabilities},
		prepare: func(b *bastion) {
			for _, dir := range []string{b.dir, b.run, filepath.Join(b.Dir, "state")} {
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error { return os.Chown(path, user, user) })
			}
		},
	})
	if r := b.inClient(b.home, "", "ssh", append(b.sshOptions("quic"), "root@db-1", "echo served")...); r.stdout != "served\n" {
		t.Errorf("ssh: %v\n%s", r, b.daemon.Output())
	}
	status := readFile(t, fmt.Sprintf("/proc/%d/status", b.worker()))
	for _, line := range []string{"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", fmt.Sprintf("Uid:\t%d\t", user)} {
		if !strings.Contains(status, line) {
			t.Errorf("the worker's status lacks %q:\n%s", line, status)
		}
	}
}
