package lab

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tree are the processes of the roots and all that descend from them.
func tree(roots []int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// The name, in parentheses, may contain anything; the parent is the second field behind it.
		fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
		if len(fields) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(string(fields[1]))
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		children[parent] = append(children[parent], pid)
	}
	all := append([]int(nil), roots...)
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// cpuTimes are the CPU times that each process of the trees has used, its threads that have ended included.
func cpuTimes(roots []int) map[int]time.Duration {
	times := map[int]time.Duration{}
	for _, pid := range tree(roots) {
		// clock_getcpuclockid(3): exact to the nanosecond, where /proc/PID/stat counts ticks of 10 ms.
		var t unix.Timespec
		if unix.ClockGettime(int32(^pid<<3|2), &t) == nil {
			times[pid] = time.Duration(t.Nano())
		}
	}
	return times
}

// cpuBetween is what was used between two readings. Of a process that was not there at the first one all counts.
func cpuBetween(before, after map[int]time.Duration) time.Duration {
	var sum time.Duration
	for pid, t := range after {
		sum += t - before[pid]
	}
	return sum
}

// memory is the proportional set size of the trees in bytes: pages that processes share count once.
func memory(roots []int) (int64, error) {
	var sum int64
	for _, pid := range tree(roots) {
		pss, err := proportional(pid)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return 0, err
		}
		sum += pss
	}
	return sum, nil
}

func proportional(pid int) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if value, ok := strings.CutPrefix(s.Text(), "Pss:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, os.ErrNotExist // it has ended in between
}
