//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"
)

const outputRounds = 9

// firstOutput compares how long an app takes from its start to the first byte
// that its container writes with the floor: QEMU as the app would start it,
// with the same kernel, and floor/init.c in place of the agent.
func firstOutput(ctx context.Context, b *bench) error {
	app, err := b.busyboxApp(ctx)
	if err != nil {
		return err
	}
	init, err := b.cc(ctx, "floor/init.c", "-nostdlib")
	if err != nil {
		return err
	}
	m, err := b.newMachine(ctx, app, "floor", init)
	if err != nil {
		return err
	}
	var ours, floor, oursCPU, floorCPU samples
	for round := range outputRounds + 1 {
		a, err := runApp(ctx, app)
		if err != nil {
			return err
		}
		f, err := runFloor(ctx, m)
		if err != nil {
			return err
		}
		if round == 0 {
			continue // the first of each fills the host's caches
		}
		ours.addSeconds(a.first)
		floor.addSeconds(f.first)
		oursCPU.addSeconds(a.cpu)
		floorCPU.addSeconds(f.cpu)
	}
	b.table.figure("app, s", ours.text("%.2f"))
	b.table.figure("floor, s", floor.text("%.2f"))
	r := ratioOf(ours, floor)
	b.table.atMost("app / floor", r.String(), r.value, 1.5, "×")
	b.table.figure("processor time of the whole run, app, s", oursCPU.text("%.2f"))
	b.table.figure("processor time of the whole run, floor, s", floorCPU.text("%.2f"))
	return b.steps(ctx, app)
}

// An outputRun is one boot until the end of its VM.
type outputRun struct {
	first time.Duration // from exec to the first byte
	cpu   time.Duration // user and system time of all processes
}

func runApp(ctx context.Context, app string) (outputRun, error) {
	cmd := appCommand(ctx, app, "--entrypoint", "/bin/echo", "--", "first")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return outputRun{}, err
	}
	before := childrenTime()
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return outputRun{}, err
	}
	text := make([]byte, 1)
	_, err = io.ReadFull(stdout, text)
	first := time.Since(began)
	_, rest := io.Copy(io.Discard, stdout)
	if err := errors.Join(err, rest, cmd.Wait()); err != nil {
		return outputRun{}, fmt.Errorf("run %s: %w\n%s", app, err, stderr.String())
	}
	return outputRun{first, childrenTime() - before}, nil
}

func runFloor(ctx context.Context, m *machine) (outputRun, error) {
	before := childrenTime()
	began := time.Now()
	v, err := m.start(ctx)
	if err != nil {
		return outputRun{}, err
	}
	var first time.Duration
	var said []string
	lines := bufio.NewScanner(v.console)
	for lines.Scan() {
		said = append(said, lines.Text())
		if first == 0 && strings.Contains(lines.Text(), "floor") {
			first = time.Since(began)
		}
	}
	if err := errors.Join(lines.Err(), v.wait()); err != nil {
		return outputRun{}, err
	}
	if first == 0 {
		return outputRun{}, fmt.Errorf("the floor's init did not come up:\n%s", strings.Join(said, "\n"))
	}
	return outputRun{first, childrenTime() - before}, nil
}

// childrenTime is the processor time of all processes that have been waited
// for, theirs included.
func childrenTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

const stepRounds = 3

// steps prints how long the agent takes for what, by what it says when it is
// verbose.
func (b *bench) steps(ctx context.Context, app string) error {
	times := map[string]*samples{}
	var order []string
	for range stepRounds {
		cmd := appCommand(ctx, app, "--verbose", "--entrypoint", "/bin/echo", "--", "first")
		var stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = io.Discard, &stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("run %s: %w\n%s", app, err, stderr.String())
		}
		for line := range strings.Lines(stderr.String()) {
			line, ours := strings.CutPrefix(strings.TrimSpace(line), "bake: ")
			name, value, _ := strings.Cut(line, ": ")
			d, err := time.ParseDuration(value)
			if !ours || err != nil {
				continue
			}
			if times[name] == nil {
				times[name] = &samples{}
				order = append(order, name)
			}
			times[name].add(float64(d.Microseconds()) / 1000)
		}
	}
	fmt.Println("   the agent's steps, ms:")
	for _, name := range order {
		fmt.Printf("     %-44s %s\n", name, times[name].text("%.1f"))
	}
	return nil
}
