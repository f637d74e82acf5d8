package system

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/tests/lab"
)

var transports = []string{"quic", "https"}

// TestSSH: the same command, through Sallyport and beside it, says the same.
func TestSSH(t *testing.T) {
	t.Parallel()
	b := start(t, settings{})
	commands := map[string]struct {
		command, stdin string
	}{
		"output":     {command: "echo out; echo err >&2"},
		"exit code":  {command: "exit 42"},
		"signal":     {command: "kill -TERM $$"},
		"stdin":      {command: "sort", stdin: "b\na\n"},
		"half-close": {command: "cat > /dev/null; echo after the end", stdin: strings.Repeat("x", 1<<20)},
		"large":      {command: "head -c 3000000 /dev/zero | tr '\\0' x"},
	}
	for name, c := range commands {
		direct := b.direct(c.stdin, c.command)
		for _, transport := range transports {
			for _, target := range []string{"db-1", "db-6"} {
				t.Run(name+"/"+transport+"/"+target, func(t *testing.T) {
					b := b.on(t)
					got := b.inClient(b.home, c.stdin, "ssh", append(b.sshOptions(transport), "root@"+target, c.command)...)
					if got != direct {
						t.Errorf("through Sallyport: %.300v\ndirect: %.300v", got, direct)
					}
				})
			}
		}
	}
}

// direct runs a command on the target without Sallyport, from inside the VNet.
func (b *bastion) direct(stdin, command string) run {
	l, inside := *b.Lab, b.on(b.t)
	l.Client, inside.Lab = b.VNet.Namespace, &l
	return inside.inClient(b.home, stdin, "ssh", "-F", "none", "-i", b.sshd.KeyFile, "-o", "IdentitiesOnly=yes",
		"-o", "UserKnownHostsFile="+b.sshd.KnownHosts(b.Lab, "10.99.0.10"), "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes",
		"-o", "LogLevel=ERROR", "root@10.99.0.10", command)
}

// TestSCP moves files each way over each transport, to targets by IPv4 and by IPv6, alone and by the agent, and compares.
func TestSCP(t *testing.T) {
	t.Parallel()
	b := start(t, settings{})
	t.Run("alone", func(t *testing.T) {
		b := b.on(t)
		b.copies(256<<20, "db-1")
		b.copies(32<<20, "db-6")
	})
	t.Run("by the agent", func(t *testing.T) {
		b := b.on(t)
		b.withAgent()
		b.copies(64<<20, "db-1", "db-6")
	})
}

// copies moves size bytes to targets and back over each transport, and compares.
func (b *bastion) copies(size int64, targets ...string) {
	b.t.Helper()
	source, remote, back := filepath.Join(b.Dir, "source"), filepath.Join(b.Dir, "remote"), filepath.Join(b.Dir, "back")
	sum := randomFile(b.t, source, size)
	for _, transport := range transports {
		for _, target := range targets {
			for _, way := range []struct{ name, from, to, file string }{
				{"up", source, "root@" + target + ":" + remote, remote},
				{"down", "root@" + target + ":" + remote, back, back},
			} {
				begin := time.Now()
				r := b.inClient(b.home, "", "scp", append(b.sshOptions(transport), "-q", way.from, way.to)...)
				took := time.Since(begin)
				if r.exit != 0 || r.stdout != "" || r.stderr != "" {
					b.t.Fatalf("scp %s, %s over %s: %v\n%s", way.name, target, transport, r, b.daemon.Output())
				}
				if fileSum(b.t, way.file) != sum {
					b.t.Errorf("scp %s, %s over %s: the copy differs", way.name, target, transport)
				}
				b.t.Logf("scp %s, %s over %s: %.2f Gbit/s", way.name, target, transport, float64(size)*8/took.Seconds()/1e9)
			}
			os.Remove(remote)
			os.Remove(back)
		}
	}
}

func randomFile(t testing.TB, path string, size int64) [32]byte {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(rand.NewChaCha8([32]byte{1}), size)); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

func fileSum(t *testing.T, path string) [32]byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

// TestSSHCommand: sallyport ssh needs no options of the person's own.
func TestSSHCommand(t *testing.T) {
	b := start(t, settings{})
	known := b.sshd.KnownHosts(b.Lab, "db-1")
	r := b.client("ssh", "-F", "none", "-i", b.sshd.KeyFile, "-o", "UserKnownHostsFile="+known, "-o", "StrictHostKeyChecking=yes", "root@db-1", "--", "echo hello; exit 7")
	if r.stdout != "hello\n" || r.exit != 7 {
		t.Errorf("sallyport ssh: %v", r)
	}
}

// TestDesktop: sallyport rdp shows the desktop of a server that demands NLA, and what is typed into it echoes.
func TestDesktop(t *testing.T) {
	b := start(t, settings{})
	shadow := b.Shadow(b.VNet.Namespace, lab.ShadowOptions{})
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			b := b.on(t)
			screen := b.Xvfb(b.Client, "1024x768")
			rdp := b.desktop(screen, shadow.Password, "--transport", transport, "rdp", "db-1", "--user", shadow.User, "--", "/d:", "/from-stdin:force",
				"/cert:ignore", "/sec:nla", "-decorations", "-grab-keyboard", "-dynamic-resolution")
			defer rdp.Stop()
			screen.WaitText("SHADOW DESKTOP", 30*time.Second)
			screen.Click(500, 400)
			screen.Type("typed over " + transport + "\n")
			screen.WaitText("typed over "+transport, 20*time.Second)
		})
	}
}
