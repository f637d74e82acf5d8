package host

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A rig is a Parent that runs in this process, and the way to talk to its worker.
type rig struct {
	t       *testing.T
	control string // address
	runDir  string
	plan    atomic.Pointer[Plan]
	stop    context.CancelFunc
	result  chan error
	log     *testLog
}

// freePort finds a TCP address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a parent with the plan and a control listener; args go to the worker.
func start(t *testing.T, plan Plan, args ...string) *rig {
	t.Helper()
	return startIn(t, t.TempDir(), plan, args...)
}

func startIn(t *testing.T, runDir string, plan Plan, args ...string) *rig {
	t.Helper()
	return startWith(t, runDir, plan, func(*Parent) {}, args...)
}

// startWith lets change the parent before it runs.
func startWith(t *testing.T, runDir string, plan Plan, change func(*Parent), args ...string) *rig {
	t.Helper()
	r := &rig{t: t, control: freePort(t), runDir: runDir, result: make(chan error, 1), log: &testLog{t: t}}
	r.set(plan)
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	p := Parent{
		Plan: func() (Plan, error) { return *r.plan.Load(), nil }, RunDir: runDir, Args: append([]string{"test", "worker"}, args...),
		Log: slog.New(slog.NewTextHandler(r.log, nil)),
	}
	change(&p)
	go func() { r.result <- p.Run(ctx) }()
	t.Cleanup(func() { r.end() })
	return r
}

// set changes what the parent computes; the control listener is always part of it.
func (r *rig) set(plan Plan) {
	plan.Listen = append([]Listen{{"control", "tcp", r.control}}, plan.Listen...)
	r.plan.Store(&plan)
}

// end asks the parent to end and returns what Run returned.
func (r *rig) end() error {
	r.stop()
	return r.wait()
}

func (r *rig) wait() error {
	r.t.Helper()
	select {
	case err := <-r.result:
		r.result <- err
		return err
	case <-time.After(10 * time.Second):
		r.t.Fatal("Run does not return")
		return nil
	}
}

// ask sends a command to the worker and returns its answer.
func (r *rig) ask(format string, args ...any) string {
	r.t.Helper()
	var c net.Conn
	err := errors.New("never dialled")
	for deadline := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		c, err = net.Dial("tcp", r.control)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, format+"\n", args...)
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return "cut: " + err.Error()
	}
	return strings.TrimSuffix(answer, "\n")
}

func (r *rig) want(want, format string, args ...any) {
	r.t.Helper()
	if got := r.ask(format, args...); got != want {
		r.t.Errorf("%s: %q, want %q", fmt.Sprintf(format, args...), got, want)
	}
}

func (r *rig) pid() int {
	r.t.Helper()
	pid, err := strconv.Atoi(r.ask("pid"))
	if err != nil {
		r.t.Fatal(err)
	}
	return pid
}

// logs wants a line in the parent's log, soon.
func (r *rig) logs(text string) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !r.log.has(text); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("the log does not say %q", text)
		}
	}
}

// testLog shows the parent's log lines with the test, and keeps them.
type testLog struct {
	t    *testing.T
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *testLog) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Contains(l.text.Bytes(), []byte(text))
}

func (l *testLog) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	fmt.Fprintf(l.t.Output(), "%s", p)
	return len(p), nil
}

func TestWorkerMayDoNothing(t *testing.T) {
	t.Setenv("SECRET", "hunter2")
	state := filepath.Join(t.TempDir(), "state")
	for dir := state; dir != "/tmp"; dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	r := start(t, Plan{State: state})
	pid := r.pid()
	status := map[string]string{}
	for line := range strings.Lines(read(t, "/proc/%d/status", pid)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		status[name] = strings.TrimSpace(value)
	}
	const none = "0000000000000000"
	for name, want := range map[string]string{
		"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1", "Groups": "",
		"Uid": "65534\t65534\t65534\t65534", "Gid": "65534\t65534\t65534\t65534",
	} {
		if status[name] != want {
			t.Errorf("%s %q, want %q", name, status[name], want)
		}
	}
	for v := range strings.SplitSeq(read(t, "/proc/%d/environ", pid), "\x00") {
		if name, _, _ := strings.Cut(v, "="); name != "PATH" && strings.Contains(v, "hunter2") || name == "HOME" {
			t.Errorf("the worker's environment has %s", v)
		}
	}
	if got := read(t, "/proc/%d/cmdline", pid); got != "test\x00worker\x00" {
		t.Errorf("command line %q", got)
	}
	if limits := read(t, "/proc/%d/limits", pid); !strings.Contains(limits, "Max core file size        0                    0") {
		t.Errorf("limits:\n%s", limits)
	}
	// What belongs to a process that cannot be dumped belongs to root.
	if st, err := os.Stat(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("environ: %v, %v", st, err)
	}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, r.runDir) {
			t.Errorf("the worker has %s open", to)
		}
	}
	r.want(state, "state")
	st, err := os.Stat(state)
	if err != nil || st.Mode() != os.ModeDir|0o700 || st.Sys().(*syscall.Stat_t).Uid != 65534 {
		t.Errorf("state directory: %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(state + "/written"); err != nil || st.Mode() != 0o600 {
		t.Errorf("the worker's file: %v, %v", st, err)
	}
}

func read(t *testing.T, format string, args ...any) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf(format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRootWorkerIsRefused(t *testing.T) {
	for _, who := range []string{"root", "0:0", "1000:0", "no-such-user"} {
		if err := start(t, Plan{RunAs: who}).wait(); err == nil || !strings.Contains(err.Error(), "run as") {
			t.Errorf("%s: %v", who, err)
		}
	}
}

// A killed worker is replaced within a second, and nobody is refused meanwhile.
func TestWorkerIsReplaced(t *testing.T) {
	r := start(t, Plan{})
	for range 3 {
		pid := r.pid()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		for {
			c, err := net.Dial("tcp", r.control)
			if err != nil {
				t.Fatalf("refused: %v", err)
			}
			c.SetDeadline(time.Now().Add(time.Second))
			io.WriteString(c, "pid\n")
			answer, err := bufio.NewReader(c).ReadString('\n')
			c.Close()
			if err == nil && strings.TrimSpace(answer) != strconv.Itoa(pid) {
				break
			}
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("serving again after %v", took)
		}
	}
}

func TestWorkerThatDiesAtOnceIsGivenTime(t *testing.T) {
	r := start(t, Plan{}, "1")
	time.Sleep(500 * time.Millisecond) // four quick deaths, then a second's pause
	begin := time.Now()
	if err := r.end(); err != nil || time.Since(begin) > 500*time.Millisecond {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func TestWrongConfigurationEndsTheParent(t *testing.T) {
	var e *ExitError
	if err := start(t, Plan{}, "78").wait(); !errors.As(err, &e) || e.Code != 78 {
		t.Errorf("first start: %v", err)
	}
	r := start(t, Plan{})
	r.pid()
	r.ask("exit 9")
	pid := r.pid()
	r.ask("exit 78") // not the first worker
	if r.pid() == pid {
		t.Error("the same worker")
	}
	r = start(t, Plan{})
	r.want("", "serving")
	r.logs("state=serving")
	pid = r.pid()
	r.ask("exit 78") // the first, which knows better than that
	if r.pid() == pid {
		t.Error("the same worker that served")
	}
}

// A worker that ends by itself is replaced like one that dies, and what it may do to the clock does not begin anew.
func TestWorkerThatEndsByItself(t *testing.T) {
	clock := &fakeClock{at: today}
	r := startWith(t, t.TempDir(), Plan{Clock: true}, func(p *Parent) { p.clock = clock })
	for range 3 {
		pid := r.pid()
		r.want("said", "clock 20h")
		r.ask("exit 0")
		if r.pid() == pid {
			t.Fatal("the same worker")
		}
	}
	r.end()
	if len(clock.steps) != 1 {
		t.Errorf("stepped by %v", clock.steps)
	}
}

// Workers that end at once by themselves are given as much time as others that die.
func TestWorkerThatEndsAtOnce(t *testing.T) {
	r := start(t, Plan{}, "0")
	r.logs("delay=1s")
	if err := r.end(); err != nil {
		t.Error(err)
	}
}

func TestSIGTERMDrains(t *testing.T) {
	r := start(t, Plan{})
	pid := r.pid()
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	if err := r.wait(); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("worker: %v", err)
	}
	if c, err := net.Dial("tcp", r.control); err == nil {
		c.Close()
		t.Error("the port is still open")
	}
}

func TestWorkerDiesWithItsParent(t *testing.T) {
	dir := t.TempDir()
	parent := exec.Command("/proc/self/exe", "parent", dir)
	var log bytes.Buffer
	pipe, err := parent.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	for s := bufio.NewScanner(io.TeeReader(pipe, &log)); pid == 0 && s.Scan(); {
		if _, after, ok := strings.Cut(s.Text(), "pid="); ok {
			pid, _ = strconv.Atoi(after)
		}
	}
	if pid == 0 {
		t.Fatalf("no worker: %s", &log)
	}
	parent.Process.Kill()
	parent.Wait()
	for deadline := time.Now().Add(time.Second); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(b), ") Z ") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the worker lives: %s", b)
		}
	}
}

func TestOneParentADirectory(t *testing.T) {
	r := start(t, Plan{})
	r.pid()
	if err := startIn(t, r.runDir, Plan{}).wait(); err == nil || !strings.Contains(err.Error(), "is running") {
		t.Errorf("second parent: %v", err)
	}
	if err := os.MkdirAll(filepath.Dir(namespacePath(r.runDir, "hub")), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(namespacePath(r.runDir, "hub"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Release(r.runDir, "hub"); err == nil || !strings.Contains(err.Error(), "is running") {
		t.Errorf("release: %v", err)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	secret, missing, fifo := filepath.Join(dir, "tls.key"), filepath.Join(dir, "missing"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.WriteFile(secret, []byte("one"), 0o600), syscall.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	r := start(t, Plan{Files: []string{secret, missing, fifo}})
	r.want("one", "file %s", secret)
	r.want("no such file", "file %s", missing)
	r.want("error: open "+fifo+": invalid argument", "file %s", fifo)
	r.want("error: open /etc/shadow: not in the plan", "file /etc/shadow")

	// A new file in the place of the old one, as editors and certificate tools do it.
	if err := errors.Join(os.WriteFile(secret+".new", []byte("two"), 0o600), os.Rename(secret+".new", secret)); err != nil {
		t.Fatal(err)
	}
	r.want("changed", "changed")
	r.want("two", "file %s", secret)

	// A file that has gone keeps its last content, for the next worker too.
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	r.ask("exit 1")
	r.want("two", "file %s", secret)

	if err := os.WriteFile(missing, []byte("here"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.want("changed", "changed")
	r.want("here", "file %s", missing)

	r.want("nothing", "changed")
	syscall.Kill(os.Getpid(), syscall.SIGHUP)
	r.want("changed", "changed")
}

// TestFolder: of a folder the worker has the files whose names count, together, and hears of new ones and of those that
// have gone.
func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "access")
	write := func(name, content string) error {
		return errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	if err := errors.Join(write("a.yaml", "one"), write("b.cedar", "two"), write("notes.txt", "no"), write(".hidden.yaml", "no")); err != nil {
		t.Fatal(err)
	}
	r := start(t, Plan{Files: []string{dir}, Count: []string{"*.yaml", "*.cedar"}})
	r.want("a.yaml=one,b.cedar=two", "files %s", dir)
	if err := errors.Join(write("c.cedar", "three"), write("a.yaml", "1")); err != nil {
		t.Fatal(err)
	}
	r.want("changed", "changed")
	r.want("a.yaml=1,b.cedar=two,c.cedar=three", "files %s", dir)
	if err := errors.Join(write("notes.txt", "still no"), os.Remove(filepath.Join(dir, "b.cedar"))); err != nil {
		t.Fatal(err)
	}
	r.want("changed", "changed")
	r.want("a.yaml=1,c.cedar=three", "files %s", dir)
	if err := os.Symlink("/etc/shadow", filepath.Join(dir, "d.txt")); err != nil {
		t.Fatal(err)
	}
	r.want("nothing", "changed")

	// The next worker has them too; a folder that has gone keeps its last content.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	r.ask("exit 1")
	r.want("a.yaml=1,c.cedar=three", "files %s", dir)
	r.logs("what cannot be read keeps its last content")
	file := filepath.Join(t.TempDir(), "access.yaml")
	r.want("error: open "+file+": not in the plan", "files %s", file)
}

func TestRelink(t *testing.T) {
	one, two := Listen{"one", "tcp", "127.0.0.1:0"}, Listen{"two", "tcp", "127.0.0.1:0"}
	udp := Listen{"udp", "udp", "127.0.0.1:0"}
	file := filepath.Join(t.TempDir(), "access")
	if err := os.WriteFile(file, []byte("rules"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, Plan{Listen: []Listen{one, udp}})
	address := r.ask("listener one")
	if size, _ := strconv.Atoi(r.ask("udp udp")); size < socketBuffer {
		t.Errorf("receive buffer of %d bytes", size)
	}
	r.want("error: listen two: not in the plan", "listener two")
	r.want("error: listen one: not a UDP socket", "udp one")

	r.set(Plan{Listen: []Listen{one, two}, Files: []string{file}})
	r.want("done", "relink")
	r.want(address, "listener one")
	if r.ask("listener two") == address {
		t.Error("one socket for two names")
	}
	r.want("error: listen udp: not in the plan", "udp udp")
	r.want("rules", "file %s", file)

	// What cannot be done changes nothing.
	r.set(Plan{Listen: []Listen{{"three", "tcp", "192.0.2.1:1"}}})
	if got := r.ask("relink"); !strings.Contains(got, "cannot assign requested address") {
		t.Errorf("bad listener: %s", got)
	}
	r.set(Plan{Listen: []Listen{{"/", "tcp", ":1"}}})
	if got := r.ask("relink"); !strings.Contains(got, `bad name "/"`) {
		t.Errorf("bad plan: %s", got)
	}
	r.set(Plan{Listen: []Listen{one, two}, Files: []string{file}})
	r.want("error: relink: the plan has no VNet hub", "relink hub")
	r.want(address, "listener one")

	// The next worker gets what the last one had.
	r.ask("exit 1")
	r.want(address, "listener one")
}

// A worker that asks for links without end is refused, and another one in its place begins where it was.
func TestRelinkTooOften(t *testing.T) {
	r := start(t, Plan{})
	const refused = "error: relink: the worker asks for this too often"
	n := 0
	for r.ask("relink") != refused {
		if n++; n > 5*relinksAtOnce {
			t.Fatal("never refused")
		}
	}
	if n < relinksAtOnce {
		t.Errorf("refused after %d", n)
	}
	r.ask("exit 1")
	for n = 0; r.ask("relink") != refused; n++ {
		if n > relinksAtOnce/2 {
			t.Fatal("the next worker may ask as often again")
		}
	}
	if r.log.has("relink refused") {
		t.Error("each refusal is a line in the log")
	}
}

// A worker that says what it must not is replaced; the parent and its sockets stay.
func TestHostileWorker(t *testing.T) {
	r := start(t, Plan{})
	for _, attack := range []string{`say {"open":"/etc/shadow"}`, "say x", "flood", "smuggle"} {
		pid := r.pid()
		r.ask("%s", attack)
		for deadline := time.Now().Add(2 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%s: the worker lives", attack)
				break
			}
		}
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil || len(fds) > 40 {
		t.Errorf("%d descriptors in the parent, %v", len(fds), err)
	}
}

func TestJoinWithoutAParent(t *testing.T) {
	out, err := exec.Command("/proc/self/exe", "worker").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not started by a parent") {
		t.Errorf("%v: %s", err, out)
	}
}
