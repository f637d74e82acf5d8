package system

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// TestRDPCommand: sallyport rdp starts xfreerdp, which shows the desktop that xrdp makes at login; what is typed into it
// echoes. The command ends with its client and the port is closed.
func TestRDPCommand(t *testing.T) {
	t.Parallel()
	b := start(t, settings{})
	x := b.XRDP(b.VNet.Namespace, lab.XRDPOptions{})
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			b := b.on(t)
			screen := b.Xvfb(b.Client, "1024x768")
			rdp := b.desktop(screen, x.Password, "--transport", transport, "rdp", "db-1", "--user", x.User, "--", "/d:", "/from-stdin:force", "/cert:ignore",
				"/size:1000x700", "-decorations", "-grab-keyboard", "-dynamic-resolution")
			screen.WaitText("XRDP DESKTOP", 60*time.Second)
			typed := "HELLO " + map[string]string{"quic": "4711", "https": "1147"}[transport]
			screen.Type(typed + "\n")
			screen.WaitText(typed, 20*time.Second)
			if flows := b.flows(); len(flows) != 1 || flows[0].Protocol != "rdp" || flows[0].Transport != transport {
				t.Errorf("the appliance shows these flows: %+v", flows)
			}
			if strings.Contains(strings.Join(processArgs(t, "xfreerdp"), "\n"), x.Password) {
				t.Error("the password is in a command line")
			}
			for _, pid := range children(t, rdp.Process.Pid) {
				syscall.Kill(pid, syscall.SIGTERM) // as when the person closes the window
			}
			select {
			case <-rdp.Done():
			case <-time.After(10 * time.Second):
				t.Error("the command does not end with its client")
			}
			b.eventually(10*time.Second, "the flow ends with the client", func() error {
				if flows := b.flows(); len(flows) > 0 {
					return fmt.Errorf("there is %+v", flows)
				}
				return nil
			})
		})
	}
}

// desktop starts the person's command on a display, with the desktop's password on stdin.
func (b *bastion) desktop(screen *lab.Display, password string, args ...string) *lab.Process {
	b.t.Helper()
	cmd := screen.Command(b.t.Context(), b.bin+"/sallyport", args...)
	cmd.Env = append(cmd.Env, "SALLYPORT_HOME="+b.home)
	cmd.Stdin = strings.NewReader(password + "\n")
	return lab.Start(b.t, cmd)
}

// processArgs are the command lines of all processes whose command line has a word.
func processArgs(t *testing.T, word string) (lines []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && bytes.Contains(line, []byte(word)) {
			lines = append(lines, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return lines
}

// children are the processes that a process has started.
func children(t *testing.T, parent int) (pids []int) {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // that thread has ended
		}
		for _, word := range strings.Fields(string(text)) {
			var pid int
			if _, err := fmt.Sscan(word, &pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}
