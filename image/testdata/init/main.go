// Command init stands for sallyportd as the only program of a machine: it loads every module by the index, says on the
// console what it finds, and turns the machine off.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	check(unix.Mount("proc", "/proc", "proc", 0, ""))
	check(unix.Mount("sys", "/sys", "sysfs", 0, ""))
	release, err := os.ReadFile("/etc/os-release")
	check(err)
	for line := range strings.Lines(string(release)) {
		fmt.Print("os-release ", line)
	}
	for _, name := range []string{"/sbin/poweroff", "/sbin/reboot"} {
		to, err := os.Readlink(name)
		check(err)
		fmt.Println(name, "leads to", to)
	}
	index, err := os.ReadFile("/lib/modules/index")
	check(err)
	loaded, absent := 0, map[string]bool{} // those for another machine, and what needs them
	seen := map[string]bool{}
	for line := range strings.Lines(string(index)) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		needs := strings.FieldsFunc(fields[1], func(r rune) bool { return r == ',' })
		for _, name := range append(needs, fields[0]) {
			if seen[name] {
				continue
			}
			seen[name] = true
			switch err := load(name); {
			case err == nil || errors.Is(err, unix.EEXIST):
				loaded++
			case errors.Is(err, unix.ENODEV), errors.Is(err, unix.EOPNOTSUPP),
				name == "ptp_vmw" && errors.Is(err, unix.EPERM), // which is how it says so
				errors.Is(err, unix.ENOENT) && slices.ContainsFunc(needs, func(n string) bool { return absent[n] }):
				absent[name] = true
			default:
				fmt.Printf("module %s: %v\n", name, err)
			}
		}
	}
	fmt.Printf("modules: %d loaded, %d without their device\n", loaded, len(absent))
	if log, err := kernelLog(); err == nil {
		for line := range strings.Lines(log) {
			if strings.Contains(line, "ecure boot") || strings.Contains(line, "locked down") {
				fmt.Print("kernel ", line)
			}
		}
	}
	fmt.Println("STARTED as", os.Getpid())
	check(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

func load(name string) error {
	f, err := os.Open("/lib/modules/" + name + ".ko")
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

func kernelLog() (string, error) {
	b := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, b)
	return string(b[:max(0, n)]), err
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
