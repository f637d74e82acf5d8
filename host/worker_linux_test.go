package host

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary is also the worker that the tests' parents start, and a parent that a test can kill.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "worker":
			os.Exit(testWorker(os.Args[2:]))
		case "errand":
			os.Exit(testErrand(os.Args[2]))
		case "lessee":
			os.Exit(testLessee())
		case "reading":
			os.Exit(testReading(os.Args[2]))
		case "parent":
			os.Exit(testParent(os.Args[2]))
		}
	}
	goleak.VerifyTestMain(m)
}

func testParent(runDir string) int {
	p := Parent{RunDir: runDir, Args: []string{"test", "worker"}, Plan: func() (Plan, error) {
		return Plan{Listen: []Listen{{"control", "tcp", "127.0.0.1:0"}}}, nil
	}}
	if err := p.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// testWorker serves commands, one a line, on the listener "control". With an argument it only exits.
func testWorker(args []string) int {
	if len(args) > 0 {
		code, _ := strconv.Atoi(args[0]) // dies at once
		return code
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	w, err := Join()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l, err := w.Listener("control")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(w, c)
		}
	}()
	<-ctx.Done()
	w.Draining()
	time.Sleep(*drainFor.Load())
	fmt.Fprintln(os.Stderr, "drained")
	return 0
}

// drainFor is how long the worker takes to end.
var drainFor = func() *atomic.Pointer[time.Duration] {
	p := new(atomic.Pointer[time.Duration])
	p.Store(new(time.Duration))
	return p
}()

func serve(w *Worker, c net.Conn) {
	defer c.Close()
	for s := bufio.NewScanner(c); s.Scan(); {
		answer, err := command(w, strings.Fields(s.Text()))
		if err != nil {
			answer = "error: " + err.Error()
		}
		fmt.Fprintln(c, strings.ReplaceAll(answer, "\n", " "))
	}
}

func command(w *Worker, words []string) (string, error) {
	arg := append(words, "")[1]
	switch words[0] {
	case "update":
		return updateWorker(w, words[1:])
	case "pid":
		return strconv.Itoa(os.Getpid()), nil
	case "exit":
		code, _ := strconv.Atoi(arg)
		os.Exit(code)
	case "file":
		b, err := w.File(arg)
		if errors.Is(err, os.ErrNotExist) {
			return "no such file", nil
		}
		return string(b), err
	case "files":
		files, err := w.Files(arg)
		var all []string
		for _, name := range slices.Sorted(maps.Keys(files)) {
			all = append(all, name+"="+string(files[name]))
		}
		return strings.Join(all, ","), err
	case "changed":
		select {
		case <-w.Changed():
			return "changed", nil
		case <-time.After(3 * time.Second):
			return "nothing", nil
		}
	case "relink":
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return "done", w.Relink(ctx, words[1:]...)
	case "listener":
		l, err := w.Listener(arg)
		if err != nil {
			return "", err
		}
		defer l.Close()
		return l.Addr().String(), nil
	case "udp":
		u, err := w.PacketConn(arg)
		if err != nil {
			return "", err
		}
		defer u.Close()
		raw, err := u.SyscallConn()
		if err != nil {
			return "", err
		}
		var size int
		raw.Control(func(fd uintptr) { size, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF) })
		return strconv.Itoa(size), err
	case "state":
		return w.State(), os.WriteFile(w.State()+"/written", nil, 0o666)
	case "link":
		l, err := w.Link(arg)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s %s %v %d dhcp=%t", l.Kind, l.Interface, l.MAC, l.MTU, l.DHCP != nil), nil
	case "receive", "dhcp":
		l, err := w.Link(arg)
		if err != nil {
			return "", err
		}
		if words[0] == "dhcp" {
			return receiveFrame(l.DHCP)
		}
		queue, _ := strconv.Atoi(append(words, "", "")[2])
		return receiveFrame(l.Queues[queue])
	case "queues":
		l, err := w.Link(arg)
		if err != nil {
			return "", err
		}
		return strconv.Itoa(len(l.Queues)), nil
	case "send":
		l, err := w.Link(arg)
		if err != nil {
			return "", err
		}
		b, err := hex.DecodeString(words[2])
		if err == nil {
			_, err = l.Queues[0].Write(append(make([]byte, vnetHeader), b...))
		}
		return "sent", err
	case "serving": // and how its self-test goes
		var tested atomic.Int64
		w.Serving(func(ctx context.Context) error {
			switch n := tested.Add(1); {
			case arg == "troubled":
				return fmt.Errorf("disk: %w", ErrTrouble)
			case arg == "failing":
				return errors.New("no answer")
			case arg == "stuck":
				select {}
			case arg == "recovering" && n < 2:
				return errors.New("not yet")
			}
			return nil
		})
		return "", nil
	case "clock":
		d, err := time.ParseDuration(arg)
		if err == nil {
			err = w.SetClock(d)
		}
		return "said", err
	case "drain":
		d, err := time.ParseDuration(arg)
		drainFor.Store(&d)
		return "", err
	case "call": // a system call that a worker has no use for
		return "made", forbidden[arg]()
	case "say":
		_, err := io.WriteString(w.channel, strings.Join(words[1:], " "))
		return "said", err
	case "flood":
		_, err := w.channel.Write(make([]byte, 100<<10))
		return "said", err
	case "smuggle":
		return "said", w.channel.send(request{Relink: 99}, 0, 1, 2)
	}
	return "", errors.New("what?")
}

// forbidden are system calls by name.
var forbidden = map[string]func() error{
	"execve":   func() error { return unix.Exec("/bin/true", []string{"true"}, nil) },
	"mount":    func() error { return unix.Mount("none", "/tmp", "tmpfs", 0, "") },
	"unshare":  func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
	"bpf":      func() error { return raw(unix.SYS_BPF, 0, 0, 0) },
	"io_uring": func() error { return raw(unix.SYS_IO_URING_SETUP, 1, 0, 0) },
	"keyctl":   func() error { _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true); return err },
	"ptrace":   func() error { return unix.PtraceAttach(os.Getppid()) },
	"module":   func() error { return unix.DeleteModule("dummy", 0) },
	"handle":   func() error { _, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/", 0); return err },
	"fork":     func() error { return raw(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0) },
	"thread":   func() error { return raw(unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_THREAD, 0, 0) },
	"clone3":   func() error { return raw(unix.SYS_CLONE3, 0, 0, 0) },
	"code": func() error {
		_, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
		return err
	},
	"packet":  func() error { _, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0); return err },
	"vsock":   func() error { _, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0); return err },
	"kill":    func() error { return unix.Kill(os.Getppid(), 0) },
	"dump":    func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) },
	"setuid":  func() error { return raw(unix.SYS_SETUID, 0, 0, 0) },
	"tiocsti": func() error { return raw(unix.SYS_IOCTL, 2, unix.TIOCSTI, 0) },
	"clock":   func() error { return raw(unix.SYS_CLOCK_SETTIME, uintptr(unix.CLOCK_REALTIME), 0, 0) },
	"x32":     func() error { return raw(1<<30|unix.SYS_GETPID, 0, 0, 0) }, // by another ABI
}

func raw(number, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall(number, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

func receiveFrame(f *os.File) (string, error) {
	f.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	b := make([]byte, 70<<10)
	n, err := f.Read(b)
	return hex.EncodeToString(b[:n]), err
}
