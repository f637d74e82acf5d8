package system

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const serviceUser = 64999

// unit is the text of the service unit.
func unit(t *testing.T) string {
	t.Helper()
	return readFile(t, filepath.Join("..", "..", "docs", "sallyportd.service"))
}

// asService is what makes a command the unit's user with the unit's capabilities and no others.
func asService(t *testing.T) []string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^AmbientCapabilities=(.*)$`).FindStringSubmatch(unit(t))
	if found == nil {
		t.Fatal("the unit names no ambient capabilities")
	}
	capabilities := "-all"
	for _, c := range strings.Fields(found[1]) {
		capabilities += ",+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	return []string{"setpriv", fmt.Sprintf("--reuid=%d", serviceUser), fmt.Sprintf("--regid=%d", serviceUser), "--clear-groups",
		"--inh-caps=" + capabilities, "--ambient-caps=" + capabilities, "--bounding-set=" + capabilities}
}

// forService makes the folders of the daemon its user's.
func (b *bastion) forService() {
	b.t.Helper()
	for _, dir := range []string{b.dir, b.run, filepath.Join(b.Dir, "state")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			b.t.Fatal(err)
		}
		filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error { return os.Chown(path, serviceUser, serviceUser) })
	}
}

// TestService starts the daemon as its service unit does: as a user of its own with the unit's capabilities and no
// others. The worker, which is the same user, has none and cannot get at the parent.
func TestService(t *testing.T) {
	b := start(t, settings{wrap: asService(t), prepare: (*bastion).forService})
	if r := b.inClient(b.home, "", "ssh", append(b.sshOptions("quic"), "root@db-1", "echo served")...); r.stdout != "served\n" {
		t.Errorf("ssh: %v\n%s", r, b.daemon.Output())
	}
	status := readFile(t, fmt.Sprintf("/proc/%d/status", b.worker()))
	for _, line := range []string{"CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", fmt.Sprintf("Uid:\t%d\t", serviceUser)} {
		if !strings.Contains(status, line) {
			t.Errorf("the worker's status lacks %q:\n%s", line, status)
		}
	}
}

// underSystemd runs the command that follows as the service of a systemd of its own, with what else the unit says. Its
// user and capabilities setpriv gives, as a systemd that is not the machine's cannot. $0 is the folder for it all.
const underSystemd = `set -e
mkdir -p /run/systemd "$0/config/systemd/user" "$0/run"
mount -t tmpfs none /run/systemd
mkdir /run/systemd/system
chmod 711 "$0" "$0/run" # the service tells systemd by a socket in there
export XDG_RUNTIME_DIR="$0/run" XDG_CONFIG_HOME="$0/config" XDG_DATA_HOME="$0/data" HOME="$0"
sed "s|^ExecStart=.*|ExecStart=$*|" "$0/unit" > "$0/config/systemd/user/sallyportd.service"
: > "$0/log"
tail -f "$0/log" &
umask 0 # as process 1 has it
/usr/lib/systemd/systemd --user --unit=sallyportd.service --log-target=console
`

// TestServiceUnderSystemd: the unit with a real systemd, which is told when the service is ready, restarts a parent that
// hangs, and sees it end in order. What the unit's filter leaves, the daemon can do with.
func TestServiceUnderSystemd(t *testing.T) {
	t.Parallel()
	var dir string
	b := start(t, settings{
		wrap: append([]string{"unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
			"sh", "-c", underSystemd, "DIR"}, asService(t)...),
		prepare: func(b *bastion) {
			b.forService()
			dir = filepath.Join(b.Dir, "systemd")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			b.wrap[len(b.wrap)-len(asService(t))-1] = dir
			var lines []string
			for line := range strings.Lines(unit(t)) {
				key, _, _ := strings.Cut(line, "=")
				switch key {
				case "User", "Group", "StateDirectory", "StateDirectoryMode", "RuntimeDirectory", "RuntimeDirectoryPreserve",
					"AmbientCapabilities", "CapabilityBoundingSet", "After", "Wants":
				case "WatchdogSec":
					lines = append(lines, "WatchdogSec=6\n")
				case "ExecStart":
					log := "append:" + filepath.Join(dir, "log")
					lines = append(lines, line, "StandardOutput="+log+"\n", "StandardError="+log+"\n")
				default:
					lines = append(lines, line)
				}
			}
			if err := os.WriteFile(filepath.Join(dir, "unit"), []byte(strings.Join(lines, "")), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	})
	parent := parentOf(t, b.worker())
	systemd := parentOf(t, parent)
	systemctl := func(args ...string) string {
		t.Helper()
		c := exec.Command("nsenter", append([]string{"--target", strconv.Itoa(systemd), "--mount", "--pid", "systemctl", "--user"}, args...)...)
		c.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+filepath.Join(dir, "run"))
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("systemctl %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	is := func(want ...string) {
		t.Helper()
		b.eventually(90*time.Second, "the service is "+strings.Join(want, ", "), func() error {
			is := systemctl("show", "-p", "ActiveState,SubState,Type,NRestarts,Result,ExecMainStatus", "sallyportd")
			for _, w := range want {
				if !strings.Contains(is, w+"\n") {
					return fmt.Errorf("it is\n%s", is)
				}
			}
			return nil
		})
	}
	is("Type=notify", "ActiveState=active", "SubState=running", "NRestarts=0")
	if r := b.inClient(b.home, "", "ssh", append(b.sshOptions("quic"), "root@db-1", "echo served")...); r.stdout != "served\n" {
		t.Errorf("ssh: %v\n%s", r, b.daemon.Output())
	}
	systemctl("reload", "sallyportd")
	is("ActiveState=active", "SubState=running", "NRestarts=0")
	time.Sleep(10 * time.Second) // longer than systemd's patience
	is("ActiveState=active", "SubState=running", "NRestarts=0")

	if err := syscall.Kill(parent, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	is("ActiveState=active", "SubState=running", "NRestarts=1")
	if r := b.client("ls"); r.exit != 0 {
		t.Errorf("after the restart: %v", r)
	}
	systemctl("stop", "sallyportd")
	is("ActiveState=inactive", "Result=success", "ExecMainStatus=0")
}

// parentOf is a process's parent.
func parentOf(t *testing.T, pid int) (parent int) {
	t.Helper()
	found := regexp.MustCompile(`(?m)^PPid:\s*(\d+)$`).FindStringSubmatch(readFile(t, fmt.Sprintf("/proc/%d/status", pid)))
	if found == nil {
		t.Fatalf("process %d has no parent", pid)
	}
	parent, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return parent
}
