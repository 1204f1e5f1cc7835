//go:build linux

package qemu

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"bake/internal/platform"
)

// sandbox is QEMU's own seccomp filter; qemu(1), -sandbox. It has no effect on
// what was opened before.
const sandbox = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

// A program is a QEMU that was found.
type program struct {
	command []string
	facts   facts
	// key changes when the program's file does.
	key string
}

// facts is what a QEMU says of itself. It is kept in the cache as JSON.
type facts struct {
	Version string `json:"version"`
	Sandbox bool   `json:"sandbox"`
	// VsockMMIO and VsockPCI: the two forms of the vhost-user vsock device.
	VsockMMIO bool `json:"vsockMMIO"`
	VsockPCI  bool `json:"vsockPCI"`
	// FSMMIO and FSPCI: those of the vhost-user file system device.
	FSMMIO bool `json:"fsMMIO"`
	FSPCI  bool `json:"fsPCI"`
	// BalloonMMIO and BalloonPCI: those of the balloon.
	BalloonMMIO bool `json:"balloonMMIO"`
	BalloonPCI  bool `json:"balloonPCI"`
	MicroVM     bool `json:"microvm"`
	TCG         bool `json:"tcg"`
}

// factsName begins the names of cache files with facts. It changes with them.
const factsName = "qemu3-"

// name is how messages call the program.
func (p *program) name() string { return filepath.Base(p.command[len(p.command)-1]) }

// find finds QEMU, once, and learns what it can do.
func (d *Driver) find(ctx context.Context) (*program, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.program != nil {
		return d.program, nil
	}
	command, err := d.look()
	if err != nil {
		return nil, err
	}
	p := &program{command: command, key: identity(command)}
	if !readCache(d.CacheDir, factsName+p.key, &p.facts) {
		if p.facts, err = ask(ctx, command, d.Env); err != nil {
			return nil, err
		}
		writeCache(d.CacheDir, factsName+p.key, p.facts)
	}
	d.program = p
	return p, nil
}

// look returns what to execute.
func (d *Driver) look() ([]string, error) {
	if len(d.Command) > 0 {
		return d.Command, nil
	}
	if path := os.Getenv("BAKE_QEMU"); path != "" {
		found, err := exec.LookPath(path)
		if err != nil {
			return nil, fmt.Errorf("BAKE_QEMU names %s, which cannot be run: %w", path, err)
		}
		return absolute(found)
	}
	names := programs(d.arch())
	for _, name := range names {
		if found, err := exec.LookPath(name); err == nil {
			return absolute(found)
		}
	}
	pkg := "qemu-system-x86"
	if d.arch() == "arm64" {
		pkg = "qemu-system-arm"
	}
	return nil, fmt.Errorf("there is no QEMU (%s) on PATH: run `apt install %s`, name one with BAKE_QEMU, or put one into the app with `bake build --vmm qemu`", names[0], pkg)
}

// programs is what QEMU for an architecture is called. Red Hat's is called
// qemu-kvm, is not on PATH, and emulates nothing but the host's architecture.
func programs(arch string) []string {
	name := "qemu-system-x86_64"
	if arch == "arm64" {
		name = "qemu-system-aarch64"
	}
	if arch != runtime.GOARCH {
		return []string{name}
	}
	return []string{name, "qemu-kvm", "/usr/libexec/qemu-kvm"}
}

func absolute(path string) ([]string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find QEMU: %w", err)
	}
	return []string{path}, nil
}

// ask learns what a QEMU can do from its help texts.
func ask(ctx context.Context, command, env []string) (facts, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var f facts
	var devices, machines, accels string
	var devicesErr, versionErr error
	var wg sync.WaitGroup
	wg.Go(func() {
		devices, devicesErr = output(ctx, command, env, "-sandbox", sandbox, "-device", "help")
		if f.Sandbox = devicesErr == nil; !f.Sandbox { // built without seccomp
			devices, devicesErr = output(ctx, command, env, "-device", "help")
		}
	})
	wg.Go(func() {
		f.Version, versionErr = output(ctx, command, env, "--version")
	})
	wg.Go(func() {
		// A QEMU that cannot say has none.
		machines, _ = output(ctx, command, env, "-machine", "help")
		accels, _ = output(ctx, command, env, "-accel", "help")
	})
	wg.Wait()
	if err := cmp.Or(devicesErr, versionErr); err != nil {
		return facts{}, fmt.Errorf("ask QEMU (%s) what it can do: %w", strings.Join(command, " "), err)
	}
	f.Version, _, _ = strings.Cut(f.Version, "\n")
	f.Version = strings.TrimPrefix(f.Version, "QEMU emulator version ")
	f.VsockMMIO = strings.Contains(devices, `"vhost-user-vsock-device"`)
	f.VsockPCI = strings.Contains(devices, `"vhost-user-vsock-pci"`)
	f.FSMMIO = strings.Contains(devices, `"vhost-user-fs-device"`)
	f.FSPCI = strings.Contains(devices, `"vhost-user-fs-pci"`)
	f.BalloonMMIO = strings.Contains(devices, `"virtio-balloon-device"`)
	f.BalloonPCI = strings.Contains(devices, `"virtio-balloon-pci"`)
	for line := range strings.Lines(machines) {
		f.MicroVM = f.MicroVM || strings.HasPrefix(line, machineMicroVM+" ")
	}
	for line := range strings.Lines(accels) {
		f.TCG = f.TCG || strings.TrimSpace(line) == accelTCG
	}
	return f, nil
}

// output runs QEMU to its end and returns what it writes.
func output(ctx context.Context, command, env []string, args ...string) (string, error) {
	var stdout bytes.Buffer
	stderr := &tail{limit: 2048}
	cmd := newCommand(command, env, args)
	cmd.Stdout, cmd.Stderr = &stdout, stderr
	p, err := platform.StartProcess(cmd)
	if err != nil {
		return "", err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Signal(killSignal)
		<-p.Done()
		return "", ctx.Err()
	}
	if err := p.Wait(); err != nil {
		return "", fmt.Errorf("%w%s", err, stderr.because())
	}
	return stdout.String(), nil
}
