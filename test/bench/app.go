//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// run runs a program to its end and returns what it writes on standard output.
func run(ctx context.Context, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// cc compiles a C file of this directory statically.
func (b *bench) cc(ctx context.Context, source string, flags ...string) (string, error) {
	out := filepath.Join(b.dir, strings.ReplaceAll(source, "/", "-")+".bin")
	args := append([]string{"-O2", "-static", "-o", out, filepath.Join("test/bench", source)}, flags...)
	_, err := run(ctx, nil, "gcc", args...)
	return out, err
}

// bake builds an app from source.
func (b *bench) bake(ctx context.Context, source, app string, args ...string) error {
	args = append([]string{"build", source, "-o", app, "--vmm", "none", "--kernel", b.kernel}, args...)
	_, err := run(ctx, nil, filepath.Join(b.bin, "bake"), args...)
	return err
}

// busyboxTree makes a root filesystem of a static busybox.
func (b *bench) busyboxTree(name string) (string, error) {
	root := filepath.Join(b.dir, name)
	for _, dir := range []string{"bin", "dev", "etc", "proc", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			return "", err
		}
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return "", fmt.Errorf("take the busybox of busybox-static: %w", err)
	}
	errs := []error{os.WriteFile(filepath.Join(root, "bin/busybox"), busybox, 0o755)}
	for _, applet := range []string{"sh", "echo", "sleep"} {
		errs = append(errs, os.Symlink("busybox", filepath.Join(root, "bin", applet)))
	}
	return root, errors.Join(errs...)
}

// busyboxApp is the app of the benchmarks that boot.
func (b *bench) busyboxApp(ctx context.Context) (string, error) {
	app := filepath.Join(b.dir, "busybox.app")
	if _, err := os.Stat(app); err == nil {
		return app, nil
	}
	root, err := b.busyboxTree("busybox")
	if err != nil {
		return "", err
	}
	return app, b.bake(ctx, root, app, "--entrypoint", "/bin/sh")
}

// environment is what the runs of an app are given on top of this process's:
// emulation, because a KVM that works or not is decided by a boot, which would
// be measured; and a quiet warning about that.
func environment() []string { return []string{"BAKE_QEMU_ACCEL=" + accelerator()} }

// accelerator is KVM only where the caller says so.
func accelerator() string {
	if a := os.Getenv("BAKE_QEMU_ACCEL"); a != "" {
		return a
	}
	return "tcg"
}

// A plan is the VM that an app boots, as BAKE_DRY_RUN=1 prints it.
type plan struct {
	Arch        string
	MemoryMiB   int
	Command     []string
	CommandLine string
	Disks       []struct {
		Size     int64
		ReadOnly bool
	}
}

func planOf(ctx context.Context, app string) (*plan, error) {
	out, err := run(ctx, append(environment(), "BAKE_DRY_RUN=1"), app)
	if err != nil {
		return nil, err
	}
	var p plan
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		return nil, fmt.Errorf("read what %s would boot: %w", app, err)
	}
	if len(p.Command) == 0 || len(p.Disks) != 2 {
		return nil, fmt.Errorf("%s would boot something else than this benchmark expects:\n%s", app, out)
	}
	return &p, nil
}

// appCommand is a run of an app with a program in its container.
func appCommand(ctx context.Context, app string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, app, args...)
	cmd.Env = append(os.Environ(), environment()...)
	// The app ends its VM.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}
