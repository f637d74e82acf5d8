package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// updateWorker does in the worker what a test asks about the image.
func updateWorker(w *Worker, words []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	switch words[0] {
	case "status":
		s, err := w.UpdateStatus(ctx)
		return fmt.Sprintf("%s %s next %s", s.Version, s.Flavour, s.Next), err
	case "install":
		f, err := os.Open(words[1])
		if err != nil {
			return "", err
		}
		defer f.Close()
		if _, err := f.Seek(3, io.SeekStart); err != nil { // which must not matter
			return "", err
		}
		return w.InstallUpdate(ctx, f)
	case "rollback":
		return w.RollbackUpdate(ctx)
	case "restart":
		return "restarting", w.Restart(ctx)
	}
	// What a worker must not do.
	r, p, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	defer p.Close()
	plain, err := os.Open("/proc/self/exe")
	if err != nil {
		return "", err
	}
	defer plain.Close()
	fd := int(plain.Fd())
	install := request{Update: &updateRequest{ID: 1, Do: updateInstall}}
	switch words[0] {
	case "pipe":
		return "", w.send(install, int(r.Fd()))
	case "nothing":
		return "", w.send(install)
	case "two":
		return "", w.send(install, fd, fd)
	case "more":
		return "", w.send(request{Update: &updateRequest{ID: 1, Do: updateStatus}}, fd)
	}
	return "", w.send(request{Relink: 1}, fd)
}

// fakeUpdater keeps what it is given.
type fakeUpdater struct {
	mu        sync.Mutex
	installed string        // last
	entered   chan struct{} // closed by the first Install
	leave     chan struct{} // Install waits for it; nil: it does not
	restarted atomic.Bool
	restart   func()
}

func (f *fakeUpdater) Status() (UpdateStatus, error) {
	return UpdateStatus{Version: "1.0.0", Flavour: "kvm", Next: "1.0.0"}, nil
}

func (f *fakeUpdater) Install(r io.Reader) (string, error) {
	if f.leave != nil {
		close(f.entered)
		<-f.leave
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.installed = string(b); f.installed == "bad" {
		return "", fmt.Errorf("install: %w", &UpdateError{Code: "E_UPDATE_FILE", Text: "it is bad", Hint: "take another"})
	}
	return "1.1.0", nil
}

// last is what was installed last. The test hears of it by another process.
func (f *fakeUpdater) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.installed
}

func (f *fakeUpdater) Rollback() (string, error) { return "", errors.New("the disk is gone") }

func (f *fakeUpdater) Restart() {
	f.restarted.Store(true)
	f.restart()
}

func withUpdater(t *testing.T, f *fakeUpdater) *rig {
	ready := make(chan struct{})
	var r *rig
	f.restart = func() { <-ready; r.stop() }
	r = startWith(t, t.TempDir(), Plan{}, func(p *Parent) { p.Updater = f })
	close(ready)
	return r
}

func updateFile(t *testing.T, content string) string {
	// Where the worker's user may read.
	dir, err := os.MkdirTemp("/tmp", "update")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	name := filepath.Join(dir, "file")
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(name, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestUpdate(t *testing.T) {
	f := &fakeUpdater{}
	r := withUpdater(t, f)
	r.want("1.0.0 kvm next 1.0.0", "update status")
	r.want("1.1.0", "update install %s", updateFile(t, "good"))
	if got := f.last(); got != "good" {
		t.Errorf("installed %q", got)
	}
	for range 50 { // who has an answer can ask for the next thing at once
		r.want("1.0.0 kvm next 1.0.0", "update status")
	}
	r.want("error: it is bad", "update install %s", updateFile(t, "bad"))
	r.want("error: the disk is gone", "update rollback")
	r.ask("update restart") // the worker may have ended before it has the answer
	if err := r.wait(); err != nil || !f.restarted.Load() {
		t.Errorf("restarted %v, %v", f.restarted.Load(), err)
	}
}

func TestNoUpdates(t *testing.T) {
	r := start(t, Plan{})
	r.want("error: this appliance does not run from the image", "update status")
	r.want("error: this appliance does not run from the image", "update install %s", updateFile(t, "good"))
}

// TestUpdateBusy: while one is installed the parent goes on, even if the worker dies, and a second one has to wait.
func TestUpdateBusy(t *testing.T) {
	f := &fakeUpdater{entered: make(chan struct{}), leave: make(chan struct{})}
	r := withUpdater(t, f)
	pid := r.pid()
	c, err := net.Dial("tcp", r.control)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "update install %s\n", updateFile(t, "good")) // nobody is going to hear the answer
	<-f.entered
	if err := syscall.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); r.pid() == pid; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no other worker")
		}
	}
	r.want("error: the appliance is busy with another update", "update status")
	close(f.leave)
	for deadline := time.Now().Add(5 * time.Second); r.ask("update status") != "1.0.0 kvm next 1.0.0"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("still busy")
		}
	}
	if got := f.last(); got != "good" {
		t.Errorf("installed %q", got)
	}
}

// TestHostileUpdate: a worker that hands over what it must not is replaced.
func TestHostileUpdate(t *testing.T) {
	r := withUpdater(t, &fakeUpdater{})
	for _, attack := range []string{"pipe", "nothing", "two", "more", "relink"} {
		pid := r.pid()
		r.ask("update %s", attack)
		for deadline := time.Now().Add(2 * time.Second); syscall.Kill(pid, 0) == nil; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%s: the worker lives", attack)
				break
			}
		}
	}
}
