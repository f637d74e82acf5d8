package boot

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const closed = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mounts are made in this order. hidepid shows a process to its own user only. Nothing is mounted for terminals, for
// shared memory or at /tmp: no program here uses them, and the worker is to find no place to write to.
var mounts = []struct {
	kind, at string
	flags    uintptr
	options  string
}{
	{"proc", "/proc", closed, "hidepid=2"},
	{"sysfs", "/sys", closed, ""},
	{"devtmpfs", "/dev", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0755"},
	{"tmpfs", "/run", closed, "mode=0755,size=25%"},
}

// Memory mounts a folder in memory that somebody else may fill, if that was not done before: what is full then is this
// folder, not the one that process 1 works in, and not the memory of the machine.
func Memory(at string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	var here, above unix.Stat_t
	if err := errors.Join(unix.Stat(at, &here), unix.Stat(filepath.Dir(at), &above)); err != nil || here.Dev != above.Dev {
		return err
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", closed, "mode=0700,size=40%,nr_inodes=8192"); err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	return nil
}

// Start mounts what every program expects, turns the kernel's own IPv6 off before there is a NIC that could get an
// address, makes Ctrl-Alt-Del a signal (SIGINT), and returns a log that goes to the consoles.
func Start() (*slog.Logger, error) {
	for _, m := range mounts {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return nil, err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.options); err != nil && !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	if err := os.Chmod("/", 0o755); err != nil { // the kernel lets everybody write to the file system that it unpacks us into
		return nil, err
	}
	kmsg, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	if err := sysctl("kernel/printk", "6"); err != nil { // consoles show notices, which ordinary lines of ours are
		return nil, err
	}
	log := slog.New(NewHandler(kmsg, slog.LevelInfo))
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		log.Warn("Ctrl-Alt-Del still restarts the machine at once", "cause", err)
	}
	for _, scope := range []string{"all", "default"} {
		if err := sysctl("net/ipv6/conf/"+scope+"/disable_ipv6", "1"); err != nil {
			return nil, fmt.Errorf("turn the kernel's IPv6 off: %w", err)
		}
	}
	signal.Ignore(unix.SIGPIPE) // nothing that goes away is to take process 1 with it
	return log, nil
}

// Display writes text to all consoles of the kernel, such as the screen and the serial port, and leaves no trace of it in
// the kernel's log.
func Display(text string) {
	names, err := os.ReadFile("/sys/class/tty/console/active")
	if err != nil {
		names = []byte("console")
	}
	for _, name := range strings.Fields(string(names)) {
		if tty, err := os.OpenFile(filepath.Join("/dev", name), os.O_WRONLY|unix.O_NOCTTY, 0); err == nil {
			tty.WriteString(text)
			tty.Close()
		}
	}
}

// MountVariables mounts the firmware's variables, on a machine that has them. It wants the module efivarfs.
func MountVariables() error {
	const at = "/sys/firmware/efi/efivars"
	if _, err := os.Stat("/sys/firmware/efi"); err != nil {
		return nil
	}
	if err := unix.Mount("efivarfs", at, "efivarfs", closed, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("mount the firmware's variables: %w", err)
	}
	return nil
}

// Hostname sets the machine's name, which may be empty for "sallyport".
func Hostname(name string) error {
	if name == "" {
		name = "sallyport"
	}
	return unix.Sethostname([]byte(name))
}

// sysctl writes a setting of the kernel. One that this kernel does not have needs no setting.
func sysctl(name, value string) error {
	err := os.WriteFile("/proc/sys/"+name, []byte(value), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// hardening are settings that cost nothing here, where nothing is debugged and no module comes later.
var hardening = []struct{ name, value string }{
	{"kernel/panic", "5"}, // seconds; a machine that is not reachable is to try again
	{"kernel/panic_on_oops", "1"},
	{"kernel/softlockup_panic", "1"},
	{"kernel/sysrq", "0"}, // a break on the serial port is nobody's order; sysrq_always_enabled on the command line goes before it
	{"kernel/kptr_restrict", "2"},
	{"kernel/dmesg_restrict", "1"},
	{"kernel/perf_event_paranoid", "3"},
	{"kernel/unprivileged_bpf_disabled", "1"},
	{"net/core/bpf_jit_harden", "2"},
	{"kernel/yama/ptrace_scope", "3"},
	{"kernel/kexec_load_disabled", "1"},
	{"kernel/io_uring_disabled", "2"},
	{"kernel/core_pattern", "|/bin/false"}, // memory has keys in it
	{"vm/unprivileged_userfaultfd", "0"},
	{"vm/mmap_rnd_bits", "32"},
	{"user/max_user_namespaces", "0"},
	{"fs/suid_dumpable", "0"},
	{"fs/protected_fifos", "2"},
	{"fs/protected_regular", "2"},
	{"fs/protected_hardlinks", "1"},
	{"fs/protected_symlinks", "1"},
	{"dev/tty/ldisc_autoload", "0"},
	{"net/ipv4/conf/all/rp_filter", "1"},
	{"net/ipv4/conf/default/rp_filter", "1"},
	{"net/ipv4/conf/all/arp_ignore", "1"}, // the weak host model: an address is told on its own NIC only
	{"net/ipv4/conf/all/accept_redirects", "0"},
	{"net/ipv4/conf/default/accept_redirects", "0"},
	{"net/ipv4/conf/all/send_redirects", "0"},
	{"net/ipv4/conf/all/accept_source_route", "0"},
	{"net/ipv4/conf/default/accept_source_route", "0"},
	{"net/ipv4/tcp_rfc1337", "1"},
	{"kernel/modules_disabled", "1"}, // last: it cannot be undone before the next boot
}

// Harden makes the kernel refuse what nobody here needs. No module can be loaded after it.
func Harden(log *slog.Logger) {
	var refused []string
	for _, s := range hardening {
		if err := sysctl(s.name, s.value); err != nil {
			refused = append(refused, strings.ReplaceAll(s.name, "/", ".")+": "+err.Error())
		}
	}
	if len(refused) > 0 {
		log.Warn("settings that this kernel does not take", "settings", refused)
	}
}
