package app

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// clockTick is the unit of the times in /proc/PID/stat, in nanoseconds: USER_HZ,
// which is 100 on every architecture that Go and bake know (proc_pid_stat(5)).
const clockTick = 1e9 / 100

// hostUsage counts what this process and all below it have used: CPU time in
// nanoseconds, and memory in bytes. A page that several of them map counts once:
// the guest's memory is the VMM's and this process's.
func hostUsage() (cpu, memory uint64, err error) {
	// The children of those that ended are in what their parent has waited for.
	for pids := []int{os.Getpid()}; len(pids) > 0; pids = pids[1:] {
		stat, err := os.ReadFile(procFile(pids[0], "stat"))
		if err != nil {
			continue // it has ended
		}
		ticks, err := statTicks(stat)
		if err != nil {
			return 0, 0, err
		}
		cpu += ticks * clockTick
		memory += residentBytes(pids[0])
		pids = append(pids, children(pids[0])...)
	}
	if cpu == 0 && memory == 0 {
		return 0, 0, errors.New("count what the app uses: /proc does not tell")
	}
	return cpu, memory, nil
}

func procFile(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

// statTicks adds utime, stime, cutime and cstime. The process's name, which may
// hold anything, is in brackets before them.
func statTicks(stat []byte) (uint64, error) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	const utime, cstime = 11, 14 // counted from the state, field 3
	if len(fields) <= cstime {
		return 0, errors.New("count what the app uses: /proc/PID/stat is too short")
	}
	var sum uint64
	for _, f := range fields[utime : cstime+1] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("count what the app uses: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// residentBytes is the process's share of the pages that it has: Pss, or where
// that may not be read Rss.
func residentBytes(pid int) uint64 {
	if rollup, err := os.ReadFile(procFile(pid, "smaps_rollup")); err == nil {
		for line := range strings.Lines(string(rollup)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kib, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
				return kib << 10
			}
		}
	}
	statm, err := os.ReadFile(procFile(pid, "statm"))
	if fields := strings.Fields(string(statm)); err == nil && len(fields) > 1 {
		pages, _ := strconv.ParseUint(fields[1], 10, 64)
		return pages * uint64(os.Getpagesize())
	}
	return 0
}

// children are the processes that pid's threads have started (proc_pid_task(5)).
func children(pid int) []int {
	threads, err := os.ReadDir(procFile(pid, "task"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, t := range threads {
		list, err := os.ReadFile(procFile(pid, "task/"+t.Name()+"/children"))
		if err != nil {
			continue
		}
		for _, f := range strings.Fields(string(list)) {
			if child, err := strconv.Atoi(f); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}
