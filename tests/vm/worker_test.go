package vm

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestWorker: a worker that the kernel kills, one that panics and one that hangs make way for another, and the console
// says why.
func TestWorker(t *testing.T) {
	machines := 1 // each of which loses ten workers in each way
	if os.Getenv("SALLYPORT_SOAK") != "" {
		machines = 5
	}
	t.Parallel()
	for range machines {
		m := start(t, options{door: true, append: "sysrq_always_enabled"})
		m.confined("/run/sallyport/state")
		m.loses(10)
		m.comesIn()
		m.powerOff()
	}
}

// loses has the worker die so many times in each way.
func (m *machine) loses(times int) {
	m.t.Helper()
	again := max(10*time.Second, m.took) // until it serves; a computer that is so busy that a boot takes longer is no measure
	if processor() == "kvm" {
		again = time.Second
	}
	ways := []struct {
		name, why string
		end       func()
	}{
		{"killed", `Out of memory: Killed process`, m.kill}, // as it is when memory is short
		{"panicked", `panic: the test wants it`, func() { m.ask("panic").Close() }},
		{"hung", `worker killed cause="worker hung: no answer for 15s"`, func() { m.isHeard(); m.ask("hang").Close() }},
	}
	worst, deaths := make([]time.Duration, len(ways)), 0
	for i := range times {
		for j, way := range ways { // the last one lives long, so that the next ones are not started more slowly
			way.end()
			deaths++
			m.console(i+1, way.why)
			m.console(deaths, `worker died status=\S+ [^\n]*delay=0s`)
			begin := time.Now()
			if err := m.answers(); err != nil {
				m.t.Fatalf("%s, death %d: %v", way.name, i+1, err)
			}
			worst[j] = max(worst[j], time.Since(begin))
			m.console(deaths+1, `serving listen=`)
		}
	}
	for j, way := range ways {
		m.t.Logf("%s %d times; it answered again after at most %v", way.name, times, worst[j].Round(10*time.Millisecond))
		if worst[j] > again {
			m.t.Errorf("%s: it answered only %v after the worker's death", way.name, worst[j])
		}
	}
}

// isHeard waits until process 1 has heard that the latest worker serves: until then it has as long as a start may take.
func (m *machine) isHeard() {
	m.t.Helper()
	m.eventually("process 1 hears that the worker serves", func() error {
		said := m.qemu.Output()
		if !strings.Contains(said[strings.LastIndex(said, "worker started"):], "worker lives state=serving") {
			return errors.New("it has not")
		}
		return nil
	})
}

// kill has the kernel kill what takes most memory. The keys are its own (SysRq over a serial line: a break and a letter).
func (m *machine) kill() {
	m.t.Helper()
	if _, err := io.WriteString(m.keys, "\x01bf"); err != nil {
		m.t.Fatal(err)
	}
}

// ask asks for something at the worker's door.
func (m *machine) ask(what string) net.Conn {
	m.t.Helper()
	var c net.Conn
	m.eventually("the door opens", func() (err error) {
		c, err = m.person().DialContext(m.t.Context(), "tcp", m.form.public+":7777")
		return err
	})
	c.SetDeadline(time.Now().Add(limit))
	if _, err := fmt.Fprintln(c, what); err != nil {
		m.t.Fatal(err)
	}
	return c
}

// told is what the worker tells at its door.
func (m *machine) told(what string) string {
	m.t.Helper()
	c := m.ask(what)
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

// Everybody may open these: devices; what a thread is called and how exactly it wants to be woken, and what a security module
// would be told about it, of which there is none here; who wants to know of a machine that is short of something; and what the
// kernel then takes only from who has a right to it.
var (
	devices = []string{"/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"}
	threads = regexp.MustCompile(`^/proc/\d+/(task/\d+/)?(attr/(apparmor/)?\w+|comm|timerslack_ns)$`)
	kernels = []string{"/proc/pressure/cpu", "/proc/pressure/io", "/proc/pressure/memory", "/proc/sys/kernel/ns_last_pid"}
)

// confined checks from inside what the worker may do: it has no right, and can write to the state and nowhere else.
func (m *machine) confined(state string) {
	m.t.Helper()
	said := strings.Split(strings.TrimSpace(m.told("threads")), "\n\n")
	for _, thread := range said {
		for _, want := range []string{`Uid:(\t[1-9]\d*){4}`, `Gid:(\t[1-9]\d*){4}`, `Groups:\s*`, `CapInh:\t0+`, `CapPrm:\t0+`, `CapEff:\t0+`, `CapBnd:\t0+`, `CapAmb:\t0+`,
			`NoNewPrivs:\t1`, `Seccomp:\t2`} {
			if !regexp.MustCompile(`(?m)^` + want + `$`).MatchString(thread) {
				m.t.Errorf("a thread of the worker has not %s:\n%s", want, thread)
			}
		}
	}
	if len(said) < 3 {
		m.t.Errorf("the worker has %d threads", len(said))
	}

	var tried int
	seen := map[string]bool{}
	for line := range strings.Lines(m.told("walk")) {
		what, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch inside := path == state || strings.HasPrefix(path, state+"/"); {
		case what == "tried":
			fmt.Sscan(path, &tried)
		case inside:
			seen[state] = true
		case what == "write" && slices.Contains(devices, path):
			seen[path] = true
		case what == "write" && (threads.MatchString(path) || slices.Contains(kernels, path)):
		default:
			m.t.Errorf("the worker can %s %s", what, path)
		}
	}
	for _, path := range append(devices, state) {
		if !seen[path] {
			m.t.Errorf("the worker cannot write to %s, or the walk has not come there", path)
		}
	}
	if m.t.Logf("it has %d threads and tried %d places", len(said), tried); tried < 1000 {
		m.t.Error("that is not all of them")
	}
}

// mounted checks how a file system is mounted, as the worker sees it.
func (m *machine) mounted(at string, options ...string) {
	m.t.Helper()
	mounts := m.told("mounts")
	found := regexp.MustCompile(`(?m)^\S+ \S+ \S+ \S+ ` + regexp.QuoteMeta(at) + ` (\S+) `).FindStringSubmatch(mounts)
	if found == nil {
		m.t.Fatalf("%s is not mounted:\n%s", at, mounts)
	}
	for _, o := range options {
		if !slices.Contains(strings.Split(found[1], ","), o) {
			m.t.Errorf("%s is mounted %s, without %s", at, found[1], o)
		}
	}
}
