package host

import (
	"fmt"
	"os"
	"slices"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// The worker's system calls, in three lists. What is on none of them fails with EPERM, as Go's own library expects it of
// containers: a new version of it that tries a new call goes on without. What nobody but an intruder would try ends the
// worker on the spot.
var (
	// usual are those of the Go runtime, of files in the state folder, and of sockets that exist.
	usual = []string{
		"read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "close", "lseek", "sendfile", "splice", "copy_file_range",
		"open", "openat", "stat", "fstat", "lstat", "newfstatat", "fstatat", "statx", "statfs", "fstatfs", "access", "faccessat", "faccessat2",
		"readlink", "readlinkat", "getdents64", "getcwd", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat", "rename", "renameat", "renameat2",
		"link", "linkat", "ftruncate", "truncate", "fallocate", "fsync", "fdatasync", "sync_file_range", "fadvise64", "flock", "fcntl", "dup", "dup2", "dup3",
		"chmod", "fchmod", "fchmodat", "utimensat", "umask", "pipe", "pipe2", "eventfd2",
		"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6",
		"bind", "connect", "listen", "accept", "accept4", "getsockname", "getpeername", "sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg",
		"setsockopt", "getsockopt", "shutdown",
		"munmap", "mremap", "madvise", "mincore", "msync", "mlock", "munlock", "brk", "membarrier",
		"futex", "futex_waitv", "set_robust_list", "rseq", "set_tid_address", "exit", "exit_group", "gettid", "sched_yield", "sched_getaffinity", "arch_prctl",
		"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "rt_sigtimedwait", "sigaltstack", "restart_syscall", "pause",
		"timer_create", "timer_settime", "timer_delete", "setitimer", "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
		"getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getgroups", "getresuid", "getresgid", "getrandom",
		"uname", "sysinfo", "getcpu", "getrlimit", "prlimit64", "getrusage", "times",
	}

	// never are those by which a program becomes another one, gets at other programs or at the kernel.
	never = []string{
		"execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp", "perf_event_open",
		"mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr",
		"unshare", "setns", "name_to_handle_at", "open_by_handle_at", "fanotify_init", "quotactl", "acct", "swapon", "swapoff",
		"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "iopl", "ioperm", "modify_ldt", "syslog",
		"bpf", "keyctl", "add_key", "request_key", "io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd", "personality",
	}
)

// unknown are those whose arguments no filter can see, and that the C library, which is in a worker under the race detector,
// does without on a kernel that does not know them.
var unknown = []string{"clone3"}

// namespaces are the flags of clone that make one.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// narrowed are calls that are allowed with some arguments: threads, but no other processes and no namespaces; memory, but
// none that can be executed; sockets of the internet, of this machine and for the kernel's list of interfaces; signals to
// itself.
func narrowed() []seccomp.NameWithConditions {
	var list []seccomp.NameWithConditions
	allow := func(name string, conditions ...seccomp.Condition) {
		list = append(list, seccomp.NameWithConditions{Name: name, Conditions: conditions})
	}
	is := func(argument uint32, value int) seccomp.Condition {
		return seccomp.Condition{Argument: argument, Operation: seccomp.Equal, Value: uint64(value)}
	}
	without := func(argument uint32, bits uint64) seccomp.Condition {
		return seccomp.Condition{Argument: argument, Operation: seccomp.BitsNotSet, Value: bits}
	}
	allow("clone", seccomp.Condition{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD}, without(0, namespaces))
	allow("mmap", without(2, unix.PROT_EXEC))
	allow("mprotect", without(2, unix.PROT_EXEC))
	for _, domain := range []int{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6} {
		allow("socket", is(0, domain))
	}
	allow("socket", is(0, unix.AF_NETLINK), is(2, unix.NETLINK_ROUTE))
	allow("socketpair", is(0, unix.AF_UNIX))
	allow("kill", is(0, os.Getpid()))
	allow("tgkill", is(0, os.Getpid()))
	for _, option := range []int{unix.PR_SET_VMA, unix.PR_SET_NAME} {
		allow("prctl", is(0, option))
	}
	for _, request := range []int{unix.TCGETS, unix.SIOCGIFNAME, unix.SIOCGIFFLAGS} {
		allow("ioctl", is(1, request))
	}
	return list
}

// restrict takes from this process, with all its threads, the system calls that a worker has no use for (seccomp(2)). There
// is no way back.
func restrict() error {
	machine, err := arch.GetInfo("")
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	known := func(names []string) []string { // each architecture lacks some
		return slices.DeleteFunc(slices.Clone(names), func(name string) bool { _, ok := machine.SyscallNames[name]; return !ok })
	}
	err = seccomp.LoadFilter(seccomp.Filter{Flag: seccomp.FilterFlagTSync, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionErrno, // EPERM
		Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionAllow, Names: known(usual), NamesWithCondtions: narrowed()},
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: known(unknown)},
			{Action: seccomp.ActionKillProcess, Names: known(never)},
		},
	}})
	if err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return nil
}
