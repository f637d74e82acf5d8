package system

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/tests/lab"
)

// A database is a real PostgreSQL beside the appliance, in its namespace, for a test to treat badly.
type database struct {
	t         *testing.T
	bin, dir  string
	namespace *lab.Namespace
	process   *lab.Process
}

const databaseURL = "postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable"

var deviceID = regexp.MustCompile(`dev-[0-9a-z]{13}`)

// newDatabase starts one. When its test is over it is searched for the secrets of b: what it holds is sealed or hashed.
func newDatabase(b *bastion) *database {
	t, n := b.t, b.Appliance
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Fatal("PostgreSQL is not installed: make packages does it")
	}
	dir, err := os.MkdirTemp("", "sallyport-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.secrets.hideKeys(t, b.Dir)
		seen := false
		walk(t, dir, func(path string, data []byte) {
			seen = seen || deviceID.Match(data) // of a device that has enrolled
			b.complain(path, data)
		})
		if !seen {
			t.Error("the search of the database finds nothing at all")
		}
		os.RemoveAll(dir)
	})
	d := &database{t: t, bin: filepath.Dir(found[len(found)-1]), dir: dir, namespace: n}
	if out, err := exec.Command("chown", "postgres:postgres", dir).CombinedOutput(); err != nil {
		t.Fatalf("chown: %v\n%s", err, out)
	}
	d.namespace.Run("setpriv", d.asOwner("initdb", "-D", d.data(), "-E", "UTF8", "--no-sync", "--auth=trust")...)
	d.start()
	t.Cleanup(func() {
		d.thaw()
		select {
		case <-d.process.Done():
		default: // pages and all are to be searched
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := d.command(ctx, "CHECKPOINT").Run(); err != nil {
				t.Errorf("CHECKPOINT: %v", err)
			}
		}
		d.process.Stop()
	})
	return d
}

func (d *database) data() string { return filepath.Join(d.dir, "data") }

func (d *database) asOwner(program string, args ...string) []string {
	return append([]string{"--reuid=postgres", "--regid=postgres", "--clear-groups", filepath.Join(d.bin, program)}, args...)
}

// start starts the server and waits until it answers.
func (d *database) start() {
	d.t.Helper()
	d.process = lab.Start(d.t, d.namespace.Command(context.Background(), "setpriv", d.asOwner("postgres", "-D", d.data(), "-k", d.dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off")...))
	for range 300 {
		if _, err := d.try("SELECT 1"); err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	d.t.Fatalf("postgres does not answer: %s", d.process.Output())
}

// crash ends the server at once, as pg_ctl stop -m immediate does.
func (d *database) crash() {
	d.t.Helper()
	syscall.Kill(d.postmaster(), syscall.SIGQUIT)
	<-d.process.Done()
}

func (d *database) postmaster() int {
	text, _ := os.ReadFile(filepath.Join(d.data(), "postmaster.pid"))
	first, _, _ := strings.Cut(string(text), "\n")
	pid, _ := strconv.Atoi(first)
	if pid <= 1 {
		d.t.Fatalf("postmaster.pid holds %q", text)
	}
	return pid
}

// freeze stops the server and its children, so that connections stay open and nothing answers.
func (d *database) freeze() { d.all(syscall.SIGSTOP) }

func (d *database) thaw() {
	if _, err := os.Stat(filepath.Join(d.data(), "postmaster.pid")); err == nil {
		d.all(syscall.SIGCONT)
	}
}

func (d *database) all(s syscall.Signal) {
	parent := d.postmaster()
	syscall.Kill(parent, s) // first, so that it starts no more
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			syscall.Kill(pid, s)
		}
	}
}

func (d *database) command(ctx context.Context, statement string) *exec.Cmd {
	return exec.CommandContext(ctx, filepath.Join(d.bin, "psql"), "-h", d.dir, "-U", "postgres", "-XAtc", statement)
}

// try runs a statement and returns what it printed, without alignment.
func (d *database) try(statement string) (string, error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), 10*time.Second)
	defer cancel()
	cmd := d.command(ctx, statement)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// says is nil if a statement prints that.
func (d *database) says(statement, want string) error {
	got, err := d.try(statement)
	if err == nil && got != want {
		err = fmt.Errorf("got %q, want %q", got, want)
	}
	return err
}
