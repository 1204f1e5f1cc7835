//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// limit bounds every wait.
const limit = 2 * time.Minute

// A phase is a moment in the life of an app: reached says whether it is past it.
type phase struct {
	name    string
	reached func(pid int, registry string) bool
}

func phases() []phase {
	state := func(want string) func(int, string) bool {
		return func(pid int, registry string) bool { return stateOf(pid, registry) == want }
	}
	return []phase{
		{"exec", func(int, string) bool { return true }},
		{"any directory", func(_ int, registry string) bool {
			found, _ := filepath.Glob(filepath.Join(registry, "*"))
			return len(found) > 0
		}},
		{"registered", func(pid int, registry string) bool { return stateOf(pid, registry) != "" }},
		{"a child runs", func(pid int, _ string) bool { return len(children(pid)) > 0 }},
		{"starting", state("starting")},
		{"running", state("running")},
		{"stopping", func(pid int, registry string) bool {
			if stateOf(pid, registry) == "running" {
				_ = syscall.Kill(pid, syscall.SIGTERM)
			}
			return stateOf(pid, registry) == "stopping"
		}},
	}
}

// kill starts and kills. A kill comes a moment after its phase was seen, so that
// it meets what is between two phases as well.
func kill(n int, app string) error {
	registry := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bake")
	count := map[string]int{}
	for i := range n {
		p := phases()[i%len(phases())]
		cmd := exec.Command(app, "--name", "storm", "--stop-timeout", "60", "--", "sh", "-c", `trap "" TERM; while :; do sleep 1; done`)
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = os.Stdout, &stderr
		if err := cmd.Start(); err != nil {
			return err
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		if err := await(func() bool { return p.reached(cmd.Process.Pid, registry) }, ended); err != nil {
			_ = cmd.Process.Kill()
			return fmt.Errorf("run %d, until %q: %w\n%s", i, p.name, err, &stderr)
		}
		// Where nothing is, sleeping finds nothing: the runs differ on purpose.
		time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
		below := descendants(cmd.Process.Pid)
		if err := cmd.Process.Kill(); err != nil {
			return err
		}
		<-ended
		for _, pid := range below {
			if err := await(func() bool { return !alive(pid) }, nil); err != nil {
				return fmt.Errorf("run %d, killed at %q: process %d lives on: %w", i, p.name, pid, err)
			}
		}
		// A child that was just forked shares the lock until it executes its
		// program, or dies with its parent.
		var list []byte
		var failed error
		if err := await(func() bool {
			list, failed = exec.Command(app, "ps", "-q").CombinedOutput()
			return failed != nil || len(list) == 0
		}, nil); err != nil {
			return fmt.Errorf("run %d, killed at %q: ps lists %s: %w", i, p.name, list, err)
		}
		if failed != nil {
			return fmt.Errorf("run %d, ps: %w: %s", i, failed, list)
		}
		count[p.name]++
	}
	for _, p := range phases() {
		fmt.Printf("killed %d times: %s\n", count[p.name], p.name)
	}
	return nil
}

// await polls for what nobody tells of.
func await(done func() bool, ended <-chan error) error {
	for deadline := time.Now().Add(limit); !done(); time.Sleep(time.Millisecond) {
		select {
		case err := <-ended:
			return fmt.Errorf("it ended: %w", errors.Join(err, errors.New("too early")))
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v", limit)
		}
	}
	return nil
}

// stateOf is what the instance with that process tells of itself.
func stateOf(pid int, registry string) string {
	found, _ := filepath.Glob(filepath.Join(registry, "*", "instance.json"))
	for _, path := range found {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var info struct {
			PID   int
			State string
		}
		if json.Unmarshal(b, &info) == nil && info.PID == pid {
			return info.State
		}
	}
	return ""
}

// children are the processes whose parent is pid (proc_pid_stat(5)).
func children(pid int) []int {
	var found []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			if child, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				found = append(found, child)
			}
		}
	}
	return found
}

func descendants(pid int) []int {
	all := children(pid)
	for _, child := range all {
		all = append(all, descendants(child)...)
	}
	return all
}

// alive says whether a process runs; a zombie does not.
func alive(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return len(fields) > 0 && fields[0] != "Z" && fields[0] != "X"
}
