//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	idleRounds = 3
	// idleAfter is when an app is called idle.
	idleAfter = 3 * time.Second
)

// idle reads what the app's process holds of the host's memory. QEMU, which
// holds the guest's memory, is another process.
func idle(ctx context.Context, b *bench) error {
	app, err := b.busyboxApp(ctx)
	if err != nil {
		return err
	}
	of := map[string]*samples{}
	for range idleRounds {
		memory, err := idleMemory(ctx, app)
		if err != nil {
			return err
		}
		for name, kib := range memory {
			if of[name] == nil {
				of[name] = &samples{}
			}
			of[name].add(float64(kib) * 1024 / 1e6)
		}
	}
	all := *of["VmRSS"]
	b.table.atMost("app's process, resident, MB", all.text("%.1f"), all.max(), 40, " MB")
	b.table.figure("of that its own memory, MB", of["RssAnon"].text("%.1f"))
	b.table.figure("of that the guest's, for vsock, MB", of["RssShmem"].text("%.1f"))
	b.table.figure("of that its executable, MB", of["RssFile"].text("%.1f"))
	return nil
}

// idleMemory returns the lines Vm… and Rss… of proc_pid_status(5), in KiB.
func idleMemory(ctx context.Context, app string) (map[string]int, error) {
	cmd := appCommand(ctx, app, "--", "-c", "echo up; exec sleep 1000")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	memory := map[string]int{}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil {
		select {
		case <-time.After(idleAfter):
		case <-ctx.Done():
		}
		memory, err = readStatus(cmd.Process.Pid)
	}
	err = errors.Join(err, cmd.Process.Signal(syscall.SIGTERM))
	_, _ = io.Copy(io.Discard, stdout)
	_ = cmd.Wait() // its exit code tells of the signal
	if err != nil {
		return nil, fmt.Errorf("run %s (%q): %w\n%s", app, line, err, stderr.String())
	}
	return memory, nil
}

func readStatus(pid int) (map[string]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	memory := map[string]int{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, isKiB := strings.CutSuffix(strings.TrimSpace(value), " kB")
		if n, err := strconv.Atoi(kib); isKiB && err == nil {
			memory[name] = n
		}
	}
	if memory["VmRSS"] == 0 {
		return nil, fmt.Errorf("/proc/%d/status has no VmRSS", pid)
	}
	return memory, nil
}
