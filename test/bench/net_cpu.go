//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// netPIDs are the processes whose CPU time is counted.
type netPIDs struct {
	app, vmm int
}

// findPIDs finds the app's VMM, its only child.
func findPIDs(app int) (netPIDs, error) {
	// Its parent is the thread that started it.
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", app))
	if err != nil {
		return netPIDs{}, err
	}
	var children []byte
	for _, task := range tasks {
		// One that has ended has no children.
		text, _ := os.ReadFile(task)
		children = append(children, text...)
	}
	pids := strings.Fields(string(children))
	if len(pids) != 1 {
		return netPIDs{}, fmt.Errorf("the app has %d child processes, and should have its VMM alone", len(pids))
	}
	vmm, err := strconv.Atoi(pids[0])
	return netPIDs{app, vmm}, err
}

// cpuTime is CPU seconds: those of the host's side of a network, whichever
// processes do it, and those that the guest has.
type cpuTime struct {
	host, guest float64
}

func (c cpuTime) since(before cpuTime) cpuTime {
	return cpuTime{c.host - before.host, c.guest - before.guest}
}

// read reads the times: the app, the VMM's threads that are no virtual CPU,
// and the processes in more are the host's side.
func (p netPIDs) read(more []int) (c cpuTime, err error) {
	for _, pid := range append([]int{p.app}, more...) {
		t, e := cpuSeconds(fmt.Sprintf("/proc/%d", pid))
		c.host += t
		err = errors.Join(err, e)
	}
	tasks, e := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", p.vmm))
	err = errors.Join(err, e)
	for _, task := range tasks {
		name, e := os.ReadFile(filepath.Join(task, "comm"))
		t, e2 := cpuSeconds(task)
		if e != nil || e2 != nil {
			continue // a worker that has ended
		}
		// "CPU 0/TCG", "CPU 0/KVM"
		if strings.HasPrefix(string(name), "CPU ") {
			c.guest += t
		} else {
			c.host += t
		}
	}
	return c, err
}

// cpuSeconds is utime and stime of proc_pid_stat(5).
func cpuSeconds(dir string) (float64, error) {
	const userHz = 100 // of every Linux that Go runs on
	text, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, err
	}
	// The name in parentheses may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s/stat has %d fields", dir, len(fields))
	}
	user, err1 := strconv.ParseFloat(fields[11], 64)
	system, err2 := strconv.ParseFloat(fields[12], 64)
	return (user + system) / userHz, errors.Join(err1, err2)
}
