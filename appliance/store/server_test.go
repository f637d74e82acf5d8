package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A server is a real PostgreSQL, started for the tests, in a folder of its own.
type server struct {
	bin, dir string
	port     int
	owner    *syscall.Credential // it refuses to run as root
	cmd      *exec.Cmd
	gone     chan struct{} // closed when the process has ended
	log      *os.File
}

const serverPassword = "not-a-secret-of-anybody"

var (
	sharedOnce sync.Once
	shared     *server
	sharedErr  error
	databases  atomic.Int64
)

// theServer is the one that most tests share; TestMain stops it.
func theServer(t *testing.T) *server {
	t.Helper()
	sharedOnce.Do(func() {
		if shared, sharedErr = newServer(); sharedErr == nil {
			sharedErr = shared.start()
		}
	})
	needServer(t, sharedErr)
	return shared
}

func stopShared() {
	if shared != nil {
		shared.remove()
	}
}

// ownServer is one that a test may treat badly.
func ownServer(t *testing.T) *server {
	t.Helper()
	p, err := newServer()
	needServer(t, err)
	t.Cleanup(p.remove)
	needServer(t, p.start())
	return p
}

var errNoPostgres = errors.New("PostgreSQL is not installed: make packages does it")

func needServer(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, errNoPostgres) && os.Geteuid() != 0 {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func newServer() (*server, error) {
	bin, err := postgresFolder()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "sallyport-pg-")
	if err != nil {
		return nil, err
	}
	p := &server{bin: bin, dir: dir}
	if err := p.init(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	return p, nil
}

func postgresFolder() (string, error) {
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	found, err := exec.LookPath("initdb")
	if err != nil {
		return "", errNoPostgres
	}
	found, err = filepath.EvalSymlinks(found)
	return filepath.Dir(found), err
}

func (p *server) init() error {
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			u, err = user.Lookup("nobody")
		}
		if err != nil {
			return err
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		p.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: true}
	}
	password := filepath.Join(p.dir, "password")
	if err := os.WriteFile(password, []byte(serverPassword), 0o600); err != nil {
		return err
	}
	if p.owner != nil {
		for _, path := range []string{p.dir, password} {
			if err := os.Chown(path, int(p.owner.Uid), int(p.owner.Gid)); err != nil {
				return err
			}
		}
	}
	cmd := p.command("initdb", "-D", filepath.Join(p.dir, "data"), "-U", "postgres", "-E", "UTF8", "--no-sync", "--pwfile", password,
		"--auth-host=scram-sha-256", "--auth-local=trust")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (p *server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"LC_ALL=C.UTF-8", "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.owner}
	return cmd
}

// start starts the server, on the port it had, and waits until it answers.
func (p *server) start() (err error) {
	if p.port == 0 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		p.port = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	if p.log, err = os.Create(filepath.Join(p.dir, "log")); err != nil {
		return err
	}
	p.cmd = p.command("postgres", "-D", filepath.Join(p.dir, "data"), "-p", strconv.Itoa(p.port), "-k", p.dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=60")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.gone = make(chan struct{})
	go func() {
		p.cmd.Wait()
		close(p.gone)
	}()
	for range 600 {
		if _, err = p.query("SELECT 1"); err == nil {
			return nil
		}
		select {
		case <-p.gone:
			log, _ := os.ReadFile(p.log.Name())
			return fmt.Errorf("postgres has ended: %s", log)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("postgres does not answer: %w", err)
}

// signal sends a signal to the server: SIGQUIT ends it at once, as a crash does.
func (p *server) signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

func (p *server) stop() {
	if p.gone == nil {
		return
	}
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGQUIT)
	<-p.gone
	p.log.Close()
}

func (p *server) remove() {
	p.stop()
	os.RemoveAll(p.dir)
}

func (p *server) url(database string) string {
	return fmt.Sprintf("postgres://postgres@/%s?host=%s&port=%d", database, p.dir, p.port)
}

// query runs a statement as the administrator.
func (p *server) query(statement string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, p.url("postgres"))
	if err != nil {
		return "", err
	}
	defer c.Close(ctx)
	results, err := c.PgConn().Exec(ctx, statement).ReadAll()
	if err != nil || len(results) == 0 || len(results[0].Rows) == 0 {
		return "", err
	}
	return string(results[0].Rows[0][0]), nil
}

// database makes an empty database.
func (p *server) database(t *testing.T) string {
	t.Helper()
	name := "t" + strconv.FormatInt(databases.Add(1), 10)
	if _, err := p.query("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	return name
}

// freeze stops the server and its children, so that connections stay open and nothing answers.
func (p *server) freeze() { p.all(syscall.SIGSTOP) }
func (p *server) thaw()   { p.all(syscall.SIGCONT) }

func (p *server) all(s syscall.Signal) {
	p.signal(s) // the parent first, so that it starts no more
	self := strconv.Itoa(p.cmd.Process.Pid)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == self {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			syscall.Kill(pid, s)
		}
	}
}
