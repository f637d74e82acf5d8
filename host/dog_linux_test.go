package host

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A bowl stands in for a watchdog device: a FIFO, of which the test reads what is written.
type bowl struct {
	path string
	mu   sync.Mutex
	food string
}

func newBowl(t *testing.T) *bowl {
	b := &bowl{path: filepath.Join(t.TempDir(), "watchdog")}
	if err := syscall.Mkfifo(b.path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(b.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := make([]byte, 64)
		for {
			n, err := f.Read(p)
			if err != nil {
				return
			}
			b.mu.Lock()
			b.food += string(p[:n])
			b.mu.Unlock()
		}
	}()
	t.Cleanup(func() { f.Close(); <-done })
	return b
}

func (b *bowl) eaten() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.food
}

// A fake manager hears what a service tells it, on a socket as systemd's.
type fakeManager struct {
	socket *net.UnixConn
	mu     sync.Mutex
	told   []string
}

// manage makes this process the service of a fake manager whose patience is limited.
func manage(t *testing.T, patience time.Duration) *fakeManager {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m := &fakeManager{socket: c}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.told = append(m.told, string(b[:n]))
			m.mu.Unlock()
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	t.Setenv("WATCHDOG_USEC", strconv.Itoa(int(patience.Microseconds())))
	return m
}

// times is how often something was told.
func (m *fakeManager) times(what string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.told {
		if strings.HasPrefix(s, what) {
			n++
		}
	}
	return n
}

func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !true(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// The manager hears when the service serves, that it lives, that it reloads and that it ends; the worker hears of no
// manager.
func TestManagerIsTold(t *testing.T) {
	m := manage(t, 400*time.Millisecond)
	var healthy atomic.Int32
	r := startWith(t, t.TempDir(), Plan{}, func(p *Parent) { p.Healthy = func() { healthy.Add(1) } })
	pid := r.pid()
	if environ := read(t, "/proc/%d/environ", pid); strings.Contains(environ, "NOTIFY_SOCKET") || strings.Contains(environ, "WATCHDOG") {
		t.Error("the worker could speak for the service")
	}
	time.Sleep(1500 * time.Millisecond)
	if m.times("READY=1") != 0 || healthy.Load() != 0 {
		t.Error("ready before the worker serves")
	}
	r.want("", "serving")
	eventually(t, "ready", func() bool { return m.times("READY=1") == 1 && healthy.Load() == 1 })
	fed := m.times("WATCHDOG=1")
	eventually(t, "fed", func() bool { return m.times("WATCHDOG=1") > fed+3 })
	syscall.Kill(os.Getpid(), syscall.SIGHUP)
	eventually(t, "reloaded", func() bool { return m.times("RELOADING=1\nMONOTONIC_USEC=") == 1 && m.times("READY=1") == 2 })
	r.ask("exit 1")
	r.pid()
	r.want("", "serving")
	r.logs("state=serving")
	r.end()
	if m.times("STOPPING=1") == 0 || healthy.Load() != 1 || m.times("READY=1") != 2 {
		t.Errorf("healthy %d times, told %q", healthy.Load(), m.told)
	}
}

// A service without a parent tells it itself.
func TestManagerOfAServiceWithoutAParent(t *testing.T) {
	m := manage(t, 400*time.Millisecond)
	ctx, stop := context.WithCancel(t.Context())
	var how atomic.Pointer[error]
	fail := errors.New("stuck")
	how.Store(&fail)
	done := make(chan struct{})
	go func() {
		defer close(done)
		Manager{}.Watch(ctx, func(context.Context) error { return *how.Load() })
	}()
	time.Sleep(300 * time.Millisecond)
	if m.times("") != 0 {
		t.Errorf("told %q while the self-test fails", m.told)
	}
	how.Store(new(error))
	eventually(t, "fed", func() bool { return m.times("READY=1") == 1 && m.times("WATCHDOG=1") > 2 })
	stop()
	<-done
}

// The device is fed while a worker lives or one starts, and not any more when one after the other dies; an orderly end
// is told to it.
func TestWatchdogIsFed(t *testing.T) {
	m := manage(t, 400*time.Millisecond) // which makes it hungry
	b := newBowl(t)
	r := startWith(t, t.TempDir(), Plan{}, func(p *Parent) { p.Watchdog, p.HungAfter = b.path, 2*time.Second })
	eventually(t, "fed at the start", func() bool { return len(b.eaten()) > 2 })
	r.pid()
	r.want("", "serving")
	time.Sleep(5 * time.Second) // longer than a worker may be silent
	before := len(b.eaten())
	eventually(t, "fed while it serves", func() bool { return len(b.eaten()) > before+3 })
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an orderly end", func() bool { return strings.HasSuffix(b.eaten(), ".V") })
	if food := b.eaten(); strings.Count(food, "V") != 1 {
		t.Errorf("eaten: %q", food)
	}
	if m.times("WATCHDOG=1") < 3 {
		t.Error("the manager was not told")
	}
}

// The machine's end does not disarm the device.
func TestWatchdogStaysArmed(t *testing.T) {
	b := newBowl(t)
	r := startWith(t, t.TempDir(), Plan{}, func(p *Parent) { p.Watchdog, p.Armed = b.path, true })
	r.pid()
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "fed once more", func() bool { return len(b.eaten()) > 1 })
	if food := b.eaten(); strings.Contains(food, "V") {
		t.Errorf("eaten: %q", food)
	}
}

func TestWatchdogGoesHungry(t *testing.T) {
	manage(t, 400*time.Millisecond)
	b := newBowl(t)
	r := startWith(t, t.TempDir(), Plan{}, func(p *Parent) { p.Watchdog, p.HungAfter = b.path, 200*time.Millisecond }, "1") // it dies at once
	r.logs("watchdogs are not fed")
	before := len(b.eaten())
	time.Sleep(3 * time.Second)
	if now := len(b.eaten()); now > before+1 {
		t.Errorf("fed %d times", now-before)
	}
	r.end()
}

func TestWatchdogThatIsNotThere(t *testing.T) {
	err := Parent{Watchdog: filepath.Join(t.TempDir(), "none"), RunDir: t.TempDir(), Log: slog.New(slog.DiscardHandler),
		Plan: func() (Plan, error) { return Plan{}, nil }}.Run(t.Context())
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "watchdog") {
		t.Error(err)
	}
}
