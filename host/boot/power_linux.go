package boot

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// How is the way in which a machine stops.
type How int

// The ways in which a machine stops.
const (
	Restart How = iota
	PowerOff
)

// String says it.
func (h How) String() string {
	if h == PowerOff {
		return "power off"
	}
	return "restart"
}

// Signal is what process 1 takes as the wish. Ctrl-Alt-Del is SIGINT, which means a restart too.
func (h How) Signal() unix.Signal {
	if h == PowerOff {
		return unix.SIGUSR2
	}
	return unix.SIGTERM
}

// Ask asks process 1 for it, as /sbin/poweroff and /sbin/reboot do: the kernel runs those when the hypervisor wants the
// machine to stop. Process 1 must be this very program: another one takes the signal for something else.
func Ask(h How) error {
	own, err := os.Stat("/proc/self/exe")
	if err != nil {
		return err
	}
	if first, err := os.Stat("/proc/1/exe"); err != nil || !os.SameFile(first, own) { // one that may not be looked at is another's
		return ErrNotOurs
	}
	return unix.Kill(1, h.Signal())
}

// ErrNotOurs means that this is no machine of which process 1 is this program.
var ErrNotOurs = errors.New("process 1 of this machine is another program")

// Stop writes out what is in memory, unmounts what lies on a disk, and stops the machine. It returns only if the kernel
// refuses.
func Stop(h How, log *slog.Logger) error {
	log.Info("the machine stops", "how", h.String())
	unix.Sync()
	for _, at := range onDisk() {
		if err := unix.Unmount(at, 0); err != nil {
			log.Error("a file system is not unmounted", "at", at, "cause", err)
			unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") // the next best
		}
	}
	unix.Sync()
	return Force(h)
}

// Force stops the machine at once: what is not written out is lost. It returns only if the kernel refuses.
func Force(h How) error {
	command := unix.LINUX_REBOOT_CMD_RESTART
	if h == PowerOff {
		command = unix.LINUX_REBOOT_CMD_POWER_OFF
	}
	if err := unix.Reboot(command); err != nil {
		return fmt.Errorf("%v: %w", h, err)
	}
	return nil
}

// onDisk are the mount points of block devices, the last first.
func onDisk() (points []string) {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line) // fstab(5)
		if len(fields) > 1 && strings.HasPrefix(fields[0], "/dev/") {
			points = append([]string{fields[1]}, points...)
		}
	}
	return points
}

// An input event of Linux (linux/input.h).
const (
	eventSize  = int(unsafe.Sizeof(unix.Timeval{})) + 8
	eventKey   = 0x01
	keyPower   = 116
	keyPressed = 1
)

// PowerButton calls pressed when somebody presses the power button, which is how a hypervisor asks for an orderly end,
// until ctx ends. It takes the input devices that there are now.
func PowerButton(ctx context.Context, log *slog.Logger, pressed func()) {
	paths, _ := filepath.Glob("/dev/input/event*")
	n := 0
	for _, path := range paths {
		if !hasPowerKey(path) {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			log.Warn("a power button cannot be read", "device", path, "cause", err)
			continue
		}
		n++
		stop := context.AfterFunc(ctx, func() { f.Close() })
		go func() {
			defer stop()
			defer f.Close()
			if err := watchKeys(f, pressed); ctx.Err() == nil {
				log.Warn("the power button is not read any more", "device", path, "cause", err)
			}
		}()
	}
	if n == 0 {
		log.Warn("this machine has no power button; it can be stopped, not asked to stop")
	}
}

// hasPowerKey says whether an input device has the key: a button, or a keyboard whose other keys are read past.
func hasPowerKey(path string) bool {
	bits, err := os.ReadFile(filepath.Join("/sys/class/input", filepath.Base(path), "device/capabilities/key"))
	return err == nil && keyBit(string(bits), keyPower)
}

// keyBit looks a key up in the words of a bitmap as sysfs has it: in hexadecimal, the highest first.
func keyBit(bitmap string, key int) bool {
	words := strings.Fields(bitmap)
	i := len(words) - 1 - key/64
	if i < 0 {
		return false
	}
	w, err := strconv.ParseUint(words[i], 16, 64)
	return err == nil && w>>(key%64)&1 == 1
}

// watchKeys reads events until r ends, and says why it did.
func watchKeys(r io.Reader, pressed func()) error {
	buf := make([]byte, eventSize)
	for {
		if _, err := io.ReadFull(r, buf); err != nil {
			return err
		}
		e := buf[eventSize-8:]
		kind, code, value := binary.NativeEndian.Uint16(e), binary.NativeEndian.Uint16(e[2:]), binary.NativeEndian.Uint32(e[4:])
		if kind == eventKey && code == keyPower && value == keyPressed {
			pressed()
		}
	}
}

// Reap buries processes that process 1 has inherited, until ctx ends. Those that this program has started are waited for
// by who did: what is still dead after a while is nobody's.
func Reap(ctx context.Context) {
	const patience = time.Second
	ticks := time.NewTicker(patience)
	defer ticks.Stop()
	last := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		for {
			pid, err := dead()
			if err != nil || pid == 0 || pid != last {
				last = pid
				break
			}
			unix.Wait4(pid, nil, unix.WNOHANG, nil)
			last = 0
		}
	}
}

// dead is a child that has ended and has not been waited for, and is left so; 0 is none.
func dead() (pid int, err error) {
	var info struct { // siginfo_t of SIGCHLD
		signo, errno, code, _ int32
		pid                   int32
		_                     [108]byte
	}
	for {
		err = unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return int(info.pid), err
		}
	}
}
